"""Signatures of releases from their stores: found, verified, compared; missing, foreign, expired, unreachable."""

from __future__ import annotations

import base64
import gzip
import socket
import threading
import time
from dataclasses import replace

import pytest

from common.archive.inventory import ProblemCode
from common.errors import (
    ExitCode,
    RegistryError,
    RegistryRefusedError,
    RegistryUnreachableError,
    ReleaseUnverifiedError,
    UsageError,
)
from common.openshift.openpgp import MAX_MESSAGE
from common.registry.client import RegistryClient
from common.registry.settings import RegistrySettings, Timeouts
from exporter.releases import hosts as standard
from exporter.releases.signing.signatures import ReleaseSignatures
from tests.fakes import openpgp as made
from tests.fakes.clock import FakeClock
from tests.fakes.openpgp import DATA, digest_in, payload, sample
from tests.fakes.release_hosts import CI_STORE, STORES, ReleaseHosts
from tests.fakes.tls_proxy import TlsProxy
from tests.samples import more

OCP = "sha256:" + digest_in("ocp-4.15.0")
ALBO = "sha256:" + digest_in("albo-bundle")
CI = "sha256:" + digest_in("ocp-ci")
RED_HAT = "567E347AD0044ADE55BA8A5F199E2F91FD431D51"


@pytest.fixture(scope="module")
def running():
    with ReleaseHosts() as hosts:
        yield hosts


@pytest.fixture
def site(running):
    """The stores, empty and without faults."""
    running.signatures.clear()
    running.requests.clear()
    running._faults.clear()
    return running


@pytest.fixture
def client(tmp_path):
    with connected(tmp_path) as client:
        yield client


def connected(folder, **changes):
    """Return a client whose clock does not wait."""
    settings = RegistrySettings(environ={"HOME": str(folder)}, system_root=folder)
    return RegistryClient(replace(settings, **changes), clock=FakeClock().clock, notify=lambda _text: None)


@pytest.fixture
def key(tmp_path):
    """A file for `--release-key`."""
    path = tmp_path / "key.asc"
    path.write_bytes(made.armored(made.signer().key()))
    return path


@pytest.fixture
def problems():
    return []


@pytest.fixture
def find(site, problems, client):
    def run(digest, *, keys=(), stores=None, okd=False, unverified=False, release="4.15.0"):
        signatures = ReleaseSignatures(
            client, keys=keys, warn=problems.append, stores=stores or site.stores, okd_stores=(site.ci_store,)
        )
        return signatures.find(digest, release, okd=okd, unverified=unverified)

    return run


def signed(content, **options):
    return made.signer().message(payload(content), **options)


def test_the_standard_stores():
    """openshift/cluster-update-keys, stores/."""
    assert [url.partition("/")[2].partition("/")[2].partition("/")[0] for url in standard.SIGNATURE_STORES] == [
        "mirror.openshift.com",
        "storage.googleapis.com",
    ]
    assert all(
        url.endswith("/signatures/openshift/release") for url in (*standard.SIGNATURE_STORES, *standard.OKD_SIGNATURE_STORES)
    )


def test_every_signature_of_both_stores_is_kept_once(site, find, problems):
    files = [sample(f"albo-bundle.{ALBO.replace(':', '-')}.signature-{number}") for number in (1, 2, 3, 4)]
    site.sign(ALBO, *files[:3])
    site.sign(ALBO, files[1], files[3], store=STORES[1])
    found = find(ALBO)
    assert [base64.b64decode(each.content) for each in found] == files
    assert {each.key for each in found} == {RED_HAT}
    assert found[0].url == f"{site.stores[0]}/sha256={ALBO[7:]}/signature-1"
    assert found[3].url == f"{site.stores[1]}/sha256={ALBO[7:]}/signature-2"
    assert problems == []
    assert [request.path.rpartition("-")[2] for request in site.requests] == ["1", "2", "3", "4", "1", "2", "3"]


@pytest.mark.parametrize("unverified", [False, *more([True])])
def test_a_release_has_as_many_signatures_as_an_inventory_holds(site, find, key, problems, unverified):
    files = [signed(OCP, made=made.BORN + made.DAY + number) for number in range(10)]
    site.sign(OCP, *files[:9])
    site.sign(OCP, files[9], store=STORES[1])
    found = find(OCP, keys=() if unverified else [key], unverified=unverified)
    assert [base64.b64decode(each.content) for each in found] == files[:9]
    assert f"{site.stores[1]}/sha256={OCP[7:]}/signature-1: left out: a release has at most 9" in problems[-1].message


def test_a_published_release(site, find):
    site.sign(OCP, sample("ocp-4.15.0"), store=STORES[1])
    assert [each.key for each in find(OCP)] == [RED_HAT]


def test_a_key_that_is_added(site, find, key):
    digest = "sha256:" + "a" * 64
    site.sign(digest, signed(digest))
    with pytest.raises(ReleaseUnverifiedError):
        find(digest)
    assert [each.key for each in find(digest, keys=[key])] == [made.signer().fingerprint]


def test_a_key_file_that_is_none(find, tmp_path):
    path = tmp_path / "absent.asc"
    with pytest.raises(UsageError, match=r"absent\.asc"):
        find(OCP, keys=[path])
    path.write_bytes(b"nothing")
    with pytest.raises(UsageError, match="no OpenPGP public key"):
        find(OCP, keys=[path])


# No accepted signature.


def test_none_is_there(find, site):
    """Digest, both URLs, and the way without are named (OCPBUGS-56009, OCPBUGS-50617)."""
    with pytest.raises(ReleaseUnverifiedError) as caught:
        find(OCP)
    text = str(caught.value)
    assert caught.value.exit_code == ExitCode.FAILED
    assert f"4.15.0: there is no signature of {OCP}" in text
    assert all(f"{store}/sha256={OCP[7:]}/signature-1: not there" in text for store in site.stores)
    assert f"--unverified-release {OCP}" in text


REASONS = {
    "another digest": (lambda: sample("albo-bundle"), f"it signs {ALBO}"),
    "a foreign key": (lambda: sample("oc-mirror-test"), "the key F53FAEFBECBD6FD9, which is none of 2 keys: 567E347A"),
    "SHA-1": (lambda: signed(OCP, digest="sha1"), "which is none of"),
    "of OKD": (lambda: sample("ocp-ci"), "which is none of"),
    "HTML": (lambda: b"<html>Sign in</html>", "not an OpenPGP packet"),
    "empty": (lambda: b"", "not one signature"),
    "too large": (lambda: sample("ocp-4.15.0") + bytes(MAX_MESSAGE), "51200"),
    "cut": (lambda: sample("ocp-4.15.0")[:-10], "ends early"),
}


@pytest.mark.parametrize("kind", REASONS)
def test_one_that_is_not_accepted(kind, site, find):
    make, why = REASONS[kind]
    site.sign(OCP, make())
    with pytest.raises(ReleaseUnverifiedError) as caught:
        find(OCP)
    first, *details = caught.value.lines
    assert first == f"4.15.0: no signature of {OCP} is accepted:"
    assert "signature-1: " in details[0]
    assert why in details[0]
    assert "--release-key FILE" in caught.value.hint


def test_a_document_that_is_none_of_a_signature(site, find, key):
    site.sign(OCP, made.signer().message(b'{"critical": 1}'), made.signer().message(payload(OCP, more=1)))
    with pytest.raises(ReleaseUnverifiedError) as caught:
        find(OCP, keys=[key])
    assert sum("the signed document is not that of a container signature" in line for line in caught.value.lines) == 2


@pytest.mark.parametrize("kind", REASONS)
def test_one_of_several_is_not_accepted(kind, site, find, problems):
    """It is left out with a warning: the cluster passes over it too (openshift/library-go, pkg/verify/verify.go)."""
    site.sign(OCP, REASONS[kind][0](), sample("ocp-4.15.0"))
    found = find(OCP)
    assert [each.url.rpartition("/")[2] for each in found] == ["signature-2"]
    (problem,) = problems
    assert (problem.severity, problem.code, problem.subject) == ("warning", ProblemCode.RELEASE_SIGNATURE, "4.15.0")
    assert "signature-1: left out: " in problem.message
    assert REASONS[kind][1] in problem.message


# Expired and revoked keys.


def test_an_expired_key_of_okd_is_accepted_with_a_warning(site, find, problems):
    """The cluster does not look at the expiry, and OKD was signed with an outdated key (okd-project/okd#1514)."""
    site.sign(CI, sample("ocp-ci"), store=CI_STORE)
    (found,) = find(CI, okd=True, release="4.0.0")
    assert found.key == "D04761B116203B0C0859B61628B76E05B923888E"
    (problem,) = problems
    assert (problem.severity, problem.code) == ("warning", ProblemCode.RELEASE_SIGNATURE)
    assert f"with the key {found.key} (openshift-ci), which expired on 2021-04-21" in problem.message


def test_an_expired_key_of_openshift_is_refused(site, find, tmp_path):
    path = tmp_path / "expired.asc"
    path.write_bytes(made.signer().key(lifetime=5 * made.DAY))
    site.sign(OCP, signed(OCP))
    site.sign(OCP, signed(OCP), store=CI_STORE)
    with pytest.raises(ReleaseUnverifiedError, match=r"signed on 2020-09-14 .* expired on 2020-09-18"):
        find(OCP, keys=[path])
    assert len(find(OCP, keys=[path], okd=True)) == 1


@pytest.mark.parametrize("okd", [False, True])
def test_a_revoked_key_is_refused(okd, site, find, tmp_path):
    path = tmp_path / "revoked.asc"
    path.write_bytes(made.signer().key(revoked=True))
    site.sign(OCP, signed(OCP), store=CI_STORE if okd else STORES[0])
    with pytest.raises(ReleaseUnverifiedError, match="revoked"):
        find(OCP, keys=[path], okd=okd)


def test_a_key_that_one_of_two_files_revokes(site, find, tmp_path):
    for name, revoked in (("first", False), ("second", True)):
        (tmp_path / name).write_bytes(made.signer().key(revoked=revoked))
    site.sign(OCP, signed(OCP))
    assert len(find(OCP, keys=[tmp_path / "first"])) == 1
    with pytest.raises(ReleaseUnverifiedError, match="revoked"):
        find(OCP, keys=[tmp_path / "first", tmp_path / "second"])


def test_keys_of_openshift_do_not_vouch_for_okd(site, find):
    site.sign(OCP, sample("ocp-4.15.0"), store=CI_STORE)
    with pytest.raises(ReleaseUnverifiedError, match="none of 4 keys"):
        find(OCP, okd=True)


# Stores that do not answer.


def unused():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{held.getsockname()[1]}/store"


def test_a_store_that_is_not_reached_is_another_error_than_no_signature(site, find):
    with pytest.raises(RegistryUnreachableError) as caught:
        find(OCP, stores=(unused(), site.stores[1]))
    text = str(caught.value)
    assert caught.value.exit_code == ExitCode.REGISTRY
    assert f"4.15.0: a signature of {OCP} could not be looked for in every store" in text
    assert f"{site.stores[1]}/sha256={OCP[7:]}/signature-1: not there" in text
    assert f"--unverified-release {OCP}" in text


def test_a_signature_of_the_other_store_is_enough(site, find, problems):
    site.sign(OCP, sample("ocp-4.15.0"), store=STORES[1])
    assert len(find(OCP, stores=(unused(), site.stores[1]))) == 1
    assert problems == []


def test_a_store_that_is_not_reached_is_asked_once(site, client):
    """Retries for each of a hundred releases would take hours."""
    counting = Counting(client)
    signatures = ReleaseSignatures(counting, warn=print, stores=(unused(), site.stores[0]))
    for number in range(3):
        with pytest.raises(RegistryUnreachableError):
            signatures.find("sha256:" + f"{number}" * 64, "4.15.0")
    assert sum("/store/" in url for url in counting.urls) == 1
    assert len(site.requests) == 3


@pytest.fixture
def silent():
    """A store that accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        yield f"http://127.0.0.1:{held.getsockname()[1]}/store"


def test_a_store_that_hangs_is_not_waited_for_when_another_one_has_a_signature(site, client, silent, problems):
    counting = Counting(client)
    signatures = ReleaseSignatures(counting, warn=problems.append, stores=(silent, site.stores[1]), within_s=0.1)
    site.sign(OCP, sample("ocp-4.15.0"), store=STORES[1])
    site.sign(ALBO, sample("albo-bundle"), store=STORES[1])
    began = time.monotonic()
    assert [len(signatures.find(digest, "4.15.0")) for digest in (OCP, ALBO)] == [1, 1]
    assert time.monotonic() - began < 20  # the timeout of a socket alone is 60 s
    assert sum(url.startswith(silent) for url in counting.urls) == 1
    assert problems == []


def test_a_slow_store_is_waited_for_when_no_other_one_has_a_signature(site, client, problems):
    """A proxy that scans what it fetches takes its time at the first file."""
    signatures = ReleaseSignatures(client, warn=problems.append, stores=site.stores, within_s=0.2)
    site.sign(OCP, sample("ocp-4.15.0"))
    # Answered once the first try was given up, and nothing else was found.
    site.fault("GET", f"{STORES[0]}/", drop=True, times=1, action=lambda: gate.wait(20))
    gate = threading.Event()
    site.fault("GET", f"{STORES[1]}/", status=404, action=gate.set)
    assert [each.url.partition("/sha256")[0] for each in signatures.find(OCP, "4.15.0")] == [site.stores[0]]
    assert problems == []


def test_a_store_that_hangs_is_another_error_than_no_signature(site, tmp_path, silent):
    with connected(tmp_path, timeouts=Timeouts(read_s=0.1)) as client:
        signatures = ReleaseSignatures(client, warn=print, stores=(silent, site.stores[0]), within_s=0.1)
        with pytest.raises(RegistryUnreachableError, match="could not be looked for in every store"):
            signatures.find(OCP, "4.15.0")


class Counting:
    def __init__(self, client):
        self._client = client
        self.urls = []

    def fetch(self, url, **options):
        self.urls.append(url)
        return self._client.fetch(url, **options)


@pytest.mark.parametrize("status", [400, 403, 451])
def test_a_store_that_refuses(status, site, find):
    site.fault("GET", "signature-1", status=status, times=99)
    with pytest.raises(RegistryError) as caught:
        find(OCP)
    assert not isinstance(caught.value, RegistryUnreachableError)
    assert isinstance(caught.value, RegistryRefusedError)
    assert str(status) in str(caught.value)


def test_a_bucket_that_hides_what_is_not_there(site, find):
    """Cloud Storage answers 403 for a missing file of a bucket that may not be listed."""
    site.sign(OCP, sample("ocp-4.15.0"))
    site.fault("GET", "signature-2", status=403, times=99)
    assert len(find(OCP)) == 1


@pytest.mark.parametrize("status", [503, *more([429, 500, 502])])
def test_a_store_that_is_in_trouble_for_a_moment(status, site, find):
    site.sign(OCP, sample("ocp-4.15.0"))
    site.fault("GET", "signature-1", status=status)
    assert len(find(OCP)) == 1


def test_a_store_that_stays_in_trouble_is_not_reached(site, find):
    site.fault("GET", "signature-1", status=503, times=100_000)
    with pytest.raises(RegistryUnreachableError, match="503"):
        find(OCP)


def test_a_store_that_redirects_to_object_storage(site, find):
    site.sign(OCP, sample("ocp-4.15.0"), store=STORES[1])
    for number in (1, 2):
        name = f"sha256={OCP[7:]}/signature-{number}"
        site.fault("GET", f"{STORES[0]}/{name}", status=302, headers={"Location": f"{site.stores[1]}/{name}"})
    assert [each.url for each in find(OCP)] == [f"{site.stores[0]}/sha256={OCP[7:]}/signature-1"]


def test_a_proxy_that_compresses(site, find):
    packed = gzip.compress(sample("ocp-4.15.0"))
    site.fault("GET", "signature-1", status=200, headers={"Content-Encoding": "gzip"}, body=packed)
    assert [base64.b64decode(each.content) for each in find(OCP)] == [sample("ocp-4.15.0")]


def test_the_published_stores_are_reached_through_the_proxy_and_with_ca(tmp_path, problems):
    """oc-mirror asked for signatures past the proxy (OCPBUGS-37055)."""
    with ReleaseHosts(tls=True) as hosts:
        hosts.sign(OCP, sample("ocp-4.15.0"), store=STORES[1])
        names = ("mirror.openshift.com:443", "storage.googleapis.com:443")
        with TlsProxy(None, routes=dict.fromkeys(names, f"localhost:{hosts.port}")) as proxy:
            environ = {"HOME": str(tmp_path), "HTTPS_PROXY": proxy.url}
            with connected(tmp_path, environ=environ, ca=hosts.ca) as client:
                found = ReleaseSignatures(client, warn=problems.append).find(OCP, "4.15.0")
            assert set(proxy.asked) == set(names)
    assert [each.url.partition("sha256=")[0] for each in found] == [f"{standard.SIGNATURE_STORES[1]}/"]
    assert problems == []


def test_nine_files_at_most(site, find, problems):
    """As many as the cluster reads (openshift/library-go, pkg/verify/store/sigstore/sigstore.go)."""
    site.sign(OCP, *[b"no %d" % number for number in range(8)], sample("ocp-4.15.0"))
    assert len(find(OCP)) == 1
    assert len(problems) == 8
    site.signatures.clear()
    site.sign(OCP, *[b"no %d" % number for number in range(9)], sample("ocp-4.15.0"))
    with pytest.raises(ReleaseUnverifiedError):
        find(OCP)
    assert not site.log("signature-10")


# A release that is asked for by name without.


def test_without_a_signature(find, problems):
    assert find(OCP, unverified=True) == ()
    (problem,) = problems
    assert (problem.severity, problem.code) == ("warning", ProblemCode.RELEASE_UNVERIFIED)
    assert OCP in problem.message


def test_without_a_store(site, find, problems):
    assert find(OCP, unverified=True, stores=(unused(),)) == ()
    assert [problem.code for problem in problems] == [ProblemCode.RELEASE_UNVERIFIED]


def test_a_foreign_signature_of_the_digest_is_carried_unverified(site, find, problems):
    """The cluster may know its key."""
    site.sign(OCP, signed(OCP), sample("albo-bundle"), b"<html>")
    (found,) = find(OCP, unverified=True)
    assert (base64.b64decode(found.content), found.key) == (signed(OCP), "")
    assert "none of 2 keys" in problems[0].message


def test_a_verified_signature_needs_no_exception(site, find, problems):
    site.sign(OCP, sample("ocp-4.15.0"))
    assert [each.key for each in find(OCP, unverified=True)] == [RED_HAT]
    assert problems == []


def test_names_are_made_safe_to_print(find):
    with pytest.raises(ReleaseUnverifiedError) as caught:
        find(OCP, release="4.1\x1b[2J")
    assert "\x1b" not in str(caught.value)


def test_the_data_of_the_samples_is_complete():
    assert len(list((DATA / "signatures").iterdir())) == 9
