"""The OpenShift releases of a document: payloads at quay.io, and the hosts that say which there are.

The signatures are by a key of the tests, which is in `publisher.asc`; that of Red Hat signs only releases of Red Hat.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import trustme

from tests.fakes import releases
from tests.fakes.openpgp import armored, signer
from tests.fakes.registry import FakeRegistry
from tests.fakes.release_hosts import CI_STORE, NAMES, ReleaseHosts, risk

COMPONENTS = ("cli", "installer", "machine-config-operator", "pod")
_RISK = risk("SlowDisks", "Writes may be slow on some disks.")
_UPDATES = {
    "4.18.20": ["4.18.21"],
    "4.18.21": ["4.18.22"],
    "4.18.22": ["4.19.9"],
    "4.19.9": ["4.20.3"],
}
_RISKY = {"4.18.20": ["4.18.22"]}
_CHANNELS = {
    "4.18": ("stable-4.18", "fast-4.18", "stable-4.19", "eus-4.18", "eus-4.20", "stable-4.20"),
    "4.19": ("stable-4.19", "stable-4.20", "eus-4.20"),
    "4.20": ("stable-4.20", "eus-4.20"),
}


def publish(stack: ExitStack, quay: FakeRegistry, authority: trustme.CA, address: str, home: Path) -> ReleaseHosts:
    """Publish releases of 4.18 to 4.20, their signatures and graph data."""
    hosts = stack.enter_context(ReleaseHosts(tls=True, names=NAMES, authority=authority, address=(address, 443)))
    key = signer()
    (home / "publisher.asc").write_bytes(armored(key.key()))
    hosts.graph_data = releases.graph_data()
    names = sorted({*_UPDATES, *(name for found in _UPDATES.values() for name in found)})
    before = None
    for name in names:
        changed = ("cli", "machine-config-operator")
        before = releases.release(name, names=COMPONENTS, before=before, changed=changed)
        before.put(quay)
        hosts.add(before, *_CHANNELS[name.rpartition(".")[0]], signer=key)
    arm = releases.release("4.18.22", "arm64", names=COMPONENTS)
    arm.put(quay)
    hosts.add(arm, "stable-4.18", signer=key)
    nightly = releases.release("4.18.23", names=COMPONENTS)
    nightly.put(quay)  # without a signature, and in no channel but candidate
    hosts.add(nightly, "candidate-4.18")
    okd = releases.release("4.18.0-okd-scos.8", names=COMPONENTS, payloads=releases.OKD_PAYLOADS, pool=releases.OKD_COMPONENTS)
    okd.put(quay)
    hosts.add(okd, "stable-scos-4", signer=key, store=CI_STORE)
    for edges, risks in ((_UPDATES, ()), (_RISKY, (_RISK,))):
        for old, found in edges.items():
            for new in found:
                hosts.connect(old, new, *risks)
    return hosts
