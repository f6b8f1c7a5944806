"""What others have configured is the same before an import, after it, after a second one, and byte for byte after `undo`.

Each constellation is a pull secret and objects of others, as people and other tools write them. One of them has most of it at once
and runs in `make test`; the others run in `make test-all`.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

import pytest

from tests.fakes.cluster import FakeCluster
from tests.fakes.cluster_operators import InstalledOperator, put_operator
from tests.fakes.cluster_simulator import MARKETPLACE
from tests.fakes.registry import FakeRegistry
from tests.fakes.sites import NODE_CA, Site, shared_both, shared_updates
from tests.samples import more

pytestmark = pytest.mark.integration
SPACE = "openshift-config"
INSTALLER = base64.b64encode(b"installer:pulls-the-release").decode()
ROBOT = base64.b64encode(b"robot:pulls-operators").decode()
QUAY = {"auth": "cXVheTpx", "email": "ops@example.com"}


@dataclass(frozen=True)
class Constellation:
    """`secret`: the text of the pull secret; `objects`: those of others. In both `MIRROR` and `SOURCE` are the hosts of the site.

    `options`: further ones of the import.
    """

    name: str
    release: str = "4.18"
    secret: str = ""
    objects: tuple[dict[str, Any], ...] = ()
    options: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name


def rules(kind, name, *pairs, policy=""):
    """Return an object with mirror rules."""
    field = {
        "ImageDigestMirrorSet": "imageDigestMirrors",
        "ImageTagMirrorSet": "imageTagMirrors",
        "ImageContentSourcePolicy": "repositoryDigestMirrors",
    }[kind]
    listed = [
        {"source": source, "mirrors": mirrors, **({"mirrorSourcePolicy": policy} if policy else {})}
        for source, mirrors in pairs
    ]
    return {"kind": kind, "metadata": {"name": name}, "spec": {field: listed}}


def singleton(kind, **spec):
    return {"kind": kind, "metadata": {"name": "cluster"}, "spec": spec}


def labelled(body, **more_metadata):
    return {**body, "metadata": {**body["metadata"], **more_metadata}}


IDMS, ITMS, ICSP = "ImageDigestMirrorSet", "ImageTagMirrorSet", "ImageContentSourcePolicy"
# Several keys for one host, fields of docker and podman (containers-auth.json(5), docker's ConfigFile), blanks and order of a
# person, escapes, and a newline at the end.
ODD_SECRET = (
    '{\r\n\t"credHelpers" : {"quay.io":"secretservice"},\n "auths":{ "MIRROR" :{"email":"", "auth":"%s"},\n'
    '\t"MIRROR/ocp/other":{"auth":"b3RoZXI6eA=="}, "MIRROR\\u002fteam":{"auth":"dGVhbTp4","identitytoken":"t"},'
    '"quay.io":{"username":"a","password":"b","registrytoken":"r"},  "https://index.docker.io/v1/":{"auth":"eDp5"}},'
    '"HttpHeaders":{"X-Meta":"a"},"x-own":[1,  2.50]}\n'
).replace("%s", INSTALLER)
LATER_SECRET = '{"auths": {"registry.redhat.io": {"auth": "eDp5"}, "MIRROR/ocp": {"auth": "%s", "email": "a@b"}}}'.replace(
    "%s", ROBOT
)
TEAM_SECRET = '{"auths": {"MIRROR/ocp": {"auth": "dGVhbTp4", "email": "a@b"}, "MIRROR": {"auth": "eDp5"}}}'
BINARY = base64.b64encode(b"\x30\x82").decode()
TRUSTED = (
    {
        "kind": "ConfigMap",
        "metadata": {"name": "site-ca", "namespace": SPACE, "labels": {"team": "a"}},
        "data": {"cache.example..5000": NODE_CA, "updateservice-registry": NODE_CA},
        "binaryData": {"old.example": BINARY},
    },
    singleton(
        "Image",
        additionalTrustedCA={"name": "site-ca"},
        allowedRegistriesForImport=[{"domainName": "quay.io", "insecure": False}],
        externalRegistryHostnames=["registry.apps.example"],
        registrySources={
            "allowedRegistries": ["quay.io", "registry.redhat.io", "quay.io"],
            "insecureRegistries": ["old.example"],
        },
    ),
)
BROAD = (
    rules(IDMS, "cache", ("SOURCE", ["cache.example/all", "second.example/all"]), policy="NeverContactSource"),
    rules(ITMS, "cache", ("SOURCE", ["cache.example/tags"]), policy="NeverContactSource"),
    rules(IDMS, "redhat-proxy", ("registry.redhat.io", ["proxy.example/redhat"]), ("*.redhat.com", ["proxy.example/rh"])),
)
HUB = (
    singleton(
        "OperatorHub",
        disableAllDefaultSources=False,
        sources=[{"name": "community-operators", "disabled": False}, {"name": "redhat-operators", "disabled": True}],
    ),
)
CATALOGS = (
    {
        "kind": "ClusterCatalog",
        "metadata": {"name": "team", "labels": {"a": "b"}},
        "spec": {"priority": 7, "source": {"type": "Image", "image": {"ref": "team.example/catalog:v1"}}},
    },
    {
        "kind": "ClusterCatalog",
        "metadata": {"name": "openshift-redhat-operators"},
        "spec": {"availabilityMode": "Unavailable"},
    },
    {
        "kind": "CatalogSource",
        "metadata": {"name": "team", "namespace": MARKETPLACE, "annotations": {"a": "b"}},
        "spec": {"sourceType": "grpc", "image": "team.example/catalog:v1", "priority": -3, "secrets": ["x"]},
    },
)
POLICIES = tuple(
    {
        "kind": "ClusterImagePolicy",
        "metadata": {"name": name},
        "spec": {"scopes": scopes, "policy": {"rootOfTrust": {"policyType": "PublicKey", "publicKey": {"keyData": "Zm9v"}}}},
    }
    for name, scopes in (("team", ["team.example/signed"]), ("quay", ["quay.io/openshift-release-dev", "*.example.org"]))
)
DROP_IN = {
    "kind": "MachineConfig",
    "metadata": {"name": "99-worker-registries", "labels": {"machineconfiguration.openshift.io/role": "worker"}},
    "spec": {"config": {"ignition": {"version": "3.2.0"}}},
}
NETWORK = {
    "kind": "NetworkPolicy",
    "metadata": {"name": "team", "namespace": MARKETPLACE},
    "spec": {"podSelector": {"matchLabels": {"a": "b"}}, "policyTypes": ["Egress"]},
}
MOST = Constellation("most at once", "4.20", ODD_SECRET, (*TRUSTED, *BROAD, *HUB, *CATALOGS, *POLICIES, DROP_IN, NETWORK))
FURTHER = [
    Constellation("several keys for one host, odd blanks and fields", secret=ODD_SECRET),
    Constellation("the same credential under the prefix already", secret=LATER_SECRET),
    Constellation(
        "a credential of the whole registry that is to be replaced", "4.8", ODD_SECRET, (), ("--replace-credential",)
    ),
    Constellation("another credential under the prefix", "4.20", TEAM_SECRET, (), ("--replace-credential",)),
    Constellation("an empty pull secret", secret='{"auths":{}}'),
    Constellation("a broader rule of both kinds that nodes may not leave", objects=BROAD),
    Constellation("a broader ICSP", "4.12", objects=(rules(ICSP, "cache", ("SOURCE", ["cache.example/all"])),)),
    Constellation(
        "an ICSP of the same source", "4.12", objects=(rules(ICSP, "a", ("SOURCE/example/alpha", ["cache.example/a"])),)
    ),
    Constellation("narrower rules", objects=(rules(IDMS, "n", ("SOURCE/example/alpha/deep", ["cache.example/d"])),)),
    Constellation(
        "narrower rules than those of a whole registry",
        objects=(rules(IDMS, "n", ("SOURCE/example/alpha", ["cache.example/d"])),),
        options=("--mirror-scope", "registry"),
    ),
    Constellation(
        "the same source, by digest and by tag",
        objects=(
            rules(IDMS, "same", ("SOURCE/example/alpha", ["cache.example/a"]), policy="NeverContactSource"),
            rules(ITMS, "tags", ("SOURCE/example/beta", ["cache.example/b"]), policy="AllowContactingSource"),
        ),
    ),
    Constellation(
        "rules without mirrors",
        objects=(rules(IDMS, "none", ("SOURCE/example/beta", []), policy="NeverContactSource"),),
    ),
    Constellation(
        "the own mirror in a rule of others",
        objects=(rules(IDMS, "theirs", ("SOURCE/example/alpha", ["cache.example/a", "MIRROR/ocp/example/alpha"])),),
    ),
    Constellation(
        "tags of the same source that nodes may not leave",
        objects=(rules(ITMS, "tags", ("SOURCE/example/alpha", ["cache.example/a"]), policy="NeverContactSource"),),
    ),
    Constellation("a ConfigMap of CAs, and lists of registries", objects=TRUSTED),
    Constellation("the same on 4.5", "4.5", ODD_SECRET, TRUSTED, ("--replace-credential",)),
    Constellation("most of it on 4.3", "4.3", ODD_SECRET, (*TRUSTED, *HUB), ("--replace-credential",)),
    Constellation(
        "blocked registries",
        objects=(singleton("Image", registrySources={"blockedRegistries": ["docker.io", "evil.example"]}),),
    ),
    Constellation("defaults that are chosen one by one", objects=HUB),
    Constellation("the same on 4.6", "4.6", objects=HUB),
    Constellation("ClusterCatalogs and CatalogSources of a team", objects=CATALOGS),
    Constellation("ClusterImagePolicies", "4.20", objects=POLICIES),
    Constellation(
        "a cluster with a proxy",
        objects=(
            singleton("Proxy", httpsProxy="http://proxy.example:3128", noProxy="127.0.0.1,.svc", trustedCA={"name": "ca"}),
        ),
    ),
    Constellation("a catalog that is served by address", "4.20", objects=(NETWORK,), options=("--serve-catalog",)),
    Constellation(
        "objects that a GitOps tool labels",
        objects=tuple(labelled(each, labels={"argocd.argoproj.io/instance": "site"}) for each in (*BROAD, *HUB)),
    ),
]
# What an import may change of what others have: the fields that docs/reference/cluster.md, *apply*, names.
ALLOWED = (
    ("OperatorHub", ("spec", "disableAllDefaultSources")),
    ("OperatorHub", ("spec", "sources")),
    ("ClusterCatalog", ("spec", "availabilityMode")),
    ("Image", ("spec", "additionalTrustedCA")),
    ("Image", ("spec", "registrySources", "allowedRegistries")),
    ("Secret", ("data", ".dockerconfigjson")),
)


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """Return what makes an archive of a format, once."""

    def archive(name):
        return shared_updates(tmp_path_factory) if name == "updates" else shared_both(tmp_path_factory)[name]

    return archive


class Configured:
    """A site with a constellation, and what it was."""

    def __init__(self, here: Site, case: Constellation) -> None:
        self.here, self.case = here, case
        source = next(image.source.partition("/")[0] for image in here.inventory.images if "/example/" in image.source)
        self._words = {"MIRROR": here.mirror.host, "SOURCE": source}
        (here.folder / "auth.json").write_text(json.dumps({"auths": {f"{here.mirror.host}/ocp": {"auth": ROBOT}}}))
        for body in case.objects:
            here.cluster.put(json.loads(self.filled(json.dumps(body))), "another-manager")
        here.cluster.simulator.wrote("OperatorHub")  # the marketplace has acted on it
        if case.secret:
            text = base64.b64encode(self.filled(case.secret).encode()).decode()
            data = {"metadata": {"name": "pull-secret", "namespace": SPACE}, "data": {".dockerconfigjson": text}}
            here.cluster.put({"kind": "Secret", **data}, "another-manager")
        subscription = InstalledOperator("team-a", "theirs", "theirs", source="team", version="1.0.0")
        if any(body["metadata"]["name"] == "team" and body["kind"] == "CatalogSource" for body in case.objects):
            put_operator(here.cluster, subscription)
        self.before = here.state()
        self.secret = self.pull_secret()

    def filled(self, text: str) -> str:
        for word, value in self._words.items():
            text = text.replace(word, value)
        return text

    def pull_secret(self) -> dict[str, Any]:
        data = self.here.cluster.get("Secret", "pull-secret", SPACE)["data"]
        return dict(json.loads(base64.b64decode(data[".dockerconfigjson"])))

    def deploy(self, command: str = "deploy", *, yes: bool = True) -> None:
        done = self.here.run(command, *self.here.trust, *self.case.options, "--timeout", "2m", yes=yes)
        assert done.status == 0, done.stderr
        assert self.here.cluster.simulator.machines.refusal() == ""

    def require_theirs_unchanged(self) -> None:
        """Everything of others is as it was, but for the fields that an import is for."""
        after, gone = self.here.state(), []
        for key, body in self.before.items():
            if key not in after:
                gone.append(key)
                continue
            changed = [path for path in _changed(body, after[key], ()) if not _is_allowed(body["kind"], path)]
            assert changed == [], key
        # The marketplace deletes its own default sources (operator-marketplace, pkg/defaults).
        assert all("catalogsources" in key and "-operators" in key for key in gone)
        self._require_entries_kept()

    def _require_entries_kept(self) -> None:
        now, host = self.pull_secret(), self.here.mirror.host
        own = {host, f"{host}/ocp"} if "--replace-credential" in self.case.options else {f"{host}/ocp"}
        old = int(self.case.release.partition(".")[2]) < 9
        own |= {host} if old else set()
        assert {name: value for name, value in now.items() if name != "auths"} == {
            name: value for name, value in self.secret.items() if name != "auths"
        }
        kept = {name: value for name, value in now["auths"].items() if name not in own}
        assert kept == {name: value for name, value in self.secret["auths"].items() if name not in own}
        image = self.here.cluster.get("Image", "cluster")["spec"].get("registrySources") or {}
        before = next(body for key, body in self.before.items() if key.endswith('images.config.openshift.io "cluster"'))
        listed = (before["spec"].get("registrySources") or {}).get("allowedRegistries") or []
        assert (image.get("allowedRegistries") or [])[: len(listed)] == listed


def _changed(before: Any, after: Any, path: tuple[str, ...]):
    """Give the paths of all that is another, or gone."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name, value in before.items():
            yield from _changed(value, after.get(name), (*path, name))
    elif before != after:
        yield path


def _is_allowed(kind: str, path: tuple[str, ...]) -> bool:
    return any(kind == each and path[: len(fields)] == fields for each, fields in ALLOWED)


@pytest.mark.parametrize("case", [MOST, *more(FURTHER)], ids=str)
def test_what_others_have_stays_and_comes_back(archives, tmp_path, case):
    old = int(case.release.partition(".")[2]) < 9
    with FakeCluster(case.release) as cluster, FakeRegistry() as mirror:
        cluster.store.keeps_owners = case.release != "4.3"
        if case.release in {"4.3", "4.4"}:
            cluster.put(singleton("Config", managementState="Managed", storage={"emptyDir": {}}))
        site = Configured(Site(cluster, mirror, archives("sqlite" if old else "updates"), tmp_path), case)
        site.deploy()
        site.require_theirs_unchanged()
        versions = cluster.versions()
        site.deploy("apply", yes=False)
        assert cluster.versions() == versions
        undone = site.here.ask("undo", "--yes")
        assert undone.status == 0, undone.stdout
        assert site.here.state() == site.before
