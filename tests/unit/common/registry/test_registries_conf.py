from __future__ import annotations

import pytest

from common.errors import NotFoundError, RegistryRefusedError, UsageError
from common.oci.image import digest_of
from common.oci.reference import Reference, split_host
from common.registry.registries_conf import load_hosts
from common.registry.settings import RegistrySettings
from tests.fakes.factories import image
from tests.fakes.registry import FakeRegistry

DIGEST = digest_of(b"")


def _hosts(tmp_path, text, **changes):
    path = tmp_path / "registries.conf"
    path.write_text(text)
    return load_hosts(RegistrySettings(registries_conf=path, **changes))


def _places(hosts, text):
    return [str(place) for place in hosts.places(Reference.parse(text))]


CONF = """
unqualified-search-registries = ["docker.io"]

[[registry]]
prefix = "quay.io"
location = "quay.io"
[[registry.mirror]]
location = "mirror.example:5000/quay"
insecure = true
[[registry.mirror]]
location = "digests.example"
pull-from-mirror = "digest-only"
[[registry.mirror]]
location = "tags.example"
pull-from-mirror = "tag-only"

[[registry]]
prefix = "quay.io/org"
location = "other.example/moved/org"

[[registry]]
prefix = "*.wild.example"
insecure = true
[[registry.mirror]]
location = "mirror.example/wild"

[[registry]]
location = "bad.example"
blocked = true

[[registry]]
location = "digestonly.example"
mirror-by-digest-only = true
[[registry.mirror]]
location = "m.example"
"""


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("quay.io/a/b:v1", ["mirror.example:5000/quay/a/b:v1", "tags.example/a/b:v1", "quay.io/a/b:v1"]),
        (f"quay.io/a@{DIGEST}", [f"mirror.example:5000/quay/a@{DIGEST}", f"digests.example/a@{DIGEST}", f"quay.io/a@{DIGEST}"]),
        ("quay.io/org/b:v1", ["other.example/moved/org/b:v1"]),
        ("quay.io/organ/b:v1", ["mirror.example:5000/quay/organ/b:v1", "tags.example/organ/b:v1", "quay.io/organ/b:v1"]),
        ("a.wild.example/x:1", ["mirror.example/wild/x:1", "a.wild.example/x:1"]),
        ("wild.example/x:1", ["wild.example/x:1"]),
        ("digestonly.example/x:1", ["digestonly.example/x:1"]),
        (f"digestonly.example/x@{DIGEST}", [f"m.example/x@{DIGEST}", f"digestonly.example/x@{DIGEST}"]),
        ("nobody.example/x:1", ["nobody.example/x:1"]),
    ],
)
def test_places(tmp_path, text, places):
    assert _places(_hosts(tmp_path, CONF), text) == places


def test_blocked(tmp_path):
    hosts = _hosts(tmp_path, CONF)
    for ask in (hosts.places, hosts.check_allowed):
        with pytest.raises(RegistryRefusedError, match=r"blocks bad\.example"):
            ask(Reference.parse("bad.example/x:1"))
    hosts.check_allowed(Reference.parse("quay.io/x:1"))


def test_insecure(tmp_path):
    hosts = _hosts(tmp_path, CONF, insecure=frozenset({"flag.example:1"}))
    named = ["flag.example:1", "mirror.example:5000", "a.wild.example"]
    assert [hosts.insecure(host) for host in named] == [True] * 3
    assert not any(hosts.insecure(host) for host in ("flag.example", "mirror.example", "wild.example", "quay.io"))


def test_docker_hub_has_another_host(tmp_path):
    hosts = _hosts(tmp_path, "")
    assert (hosts.contact("docker.io"), hosts.contact("quay.io:1")) == ("registry-1.docker.io", "quay.io:1")


@pytest.mark.parametrize(
    "text",
    [
        "registry = 1",
        "[[registry]]\nprefix = 1",
        "[[registry]]\ninsecure = true",
        "not toml",
        "[[registry]]\nlocation = 'a b'",
        "[[registry]]\nlocation = 'a.example/UPPER'",
        "[[registry]]\nprefix = '*.a/b'\nlocation = 'x.example'",
        "[[registry]]\nlocation = 'x.example'\n[[registry.mirror]]\nlocation = '../..'",
        "[[registry]]\nlocation = 'x.example'\n[[registry.mirror]]\nlocation = 'm.example'\npull-from-mirror = 'sometimes'",
    ],
)
def test_broken_file_is_named(tmp_path, text):
    with pytest.raises(UsageError, match=r"registries\.conf"):
        _hosts(tmp_path, text)


def test_named_file_must_be_there(tmp_path):
    for settings in (
        RegistrySettings(registries_conf=tmp_path / "none"),
        RegistrySettings(environ={"CONTAINERS_REGISTRIES_CONF": str(tmp_path / "none")}),
    ):
        with pytest.raises(UsageError, match="no such"):
            load_hosts(settings)


def test_file_without_end(tmp_path):
    with pytest.raises(UsageError, match="larger than"):
        _hosts(tmp_path, "#" * (4 * 1024 * 1024 + 1))


def test_rewritten_to_no_repository(tmp_path):
    hosts = _hosts(tmp_path, "[[registry]]\nprefix = 'a.example/b'\nlocation = 'c.example'")
    assert _places(hosts, "a.example/b/d:1") == ["c.example/d:1"]
    with pytest.raises(UsageError, match="names no repository"):
        hosts.places(Reference.parse("a.example/b:1"))


def test_search_order_and_drop_ins(tmp_path):
    def block(path, name):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"[[registry]]\nlocation = '{name}.example'\nblocked = true\n")

    def blocked(**changes):
        hosts = load_hosts(RegistrySettings(system_root=tmp_path, **changes))
        names = ("system", "user", "variable", "dropin")
        return [name for name in names if _is_blocked(hosts, f"{name}.example/x:1")]

    user = {"XDG_CONFIG_HOME": str(tmp_path / "config")}
    assert blocked(environ=user) == []
    block(tmp_path / "etc/containers/registries.conf", "system")
    assert blocked(environ=user) == ["system"]
    block(tmp_path / "config/containers/registries.conf", "user")
    assert blocked(environ=user) == ["user"]
    block(tmp_path / "etc/containers/registries.conf.d/1.conf", "dropin")
    assert blocked(environ=user) == ["user", "dropin"]
    (tmp_path / "config/containers/registries.conf.d").mkdir()
    (tmp_path / "config/containers/registries.conf.d/2.conf").write_text("[[registry]]\nlocation = 'dropin.example'\n")
    assert blocked(environ=user) == ["user"]
    block(tmp_path / "variable.conf", "variable")
    assert blocked(environ={**user, "CONTAINERS_REGISTRIES_CONF": str(tmp_path / "variable.conf")}) == ["variable"]


def _is_blocked(hosts, text):
    try:
        hosts.places(Reference.parse(text))
    except RegistryRefusedError:
        return True
    return False


@pytest.mark.parametrize(
    ("text", "parts"),
    [("a.b", ("a.b", None)), ("a.b:5", ("a.b", 5)), ("[::1]:5", ("::1", 5)), ("[::1]", ("::1", None)), ("::1", ("::1", None))],
)
def test_split_host(text, parts):
    assert split_host(text) == parts


def test_mirror_is_asked_first_and_the_registry_itself_after_it(connect, tmp_path):
    first, second = image(labels={"n": "1"}), image(labels={"n": "2"})
    with FakeRegistry() as mirror, FakeRegistry() as origin:
        mirror.add_image("copy/org/app", first, tag="v1")
        for parts in (first, second):
            origin.add_image("org/app", parts, tag="v1" if parts is first else "v2")
        conf = tmp_path / "registries.conf"
        conf.write_text(
            f"[[registry]]\nlocation = '{origin.host}'\ninsecure = true\n"
            f"[[registry.mirror]]\nlocation = '{mirror.host}/copy'\ninsecure = true\n"
        )
        client = connect(origin, registries_conf=conf, insecure=frozenset())
        assert client.document(origin.reference("org/app", "v1")).raw == first.raw
        assert origin.log("GET", "/manifests/") == []
        assert client.document(origin.reference("org/app", "v2")).raw == second.raw
        blob = origin.add_blob("org/app", b"only at home")
        assert client.blob_bytes(origin.reference("org/app"), blob, 100) == b"only at home"
        assert client.has_blob(origin.reference("org/app"), blob.digest)
        asked = len(mirror.requests)
        client.upload(origin.reference("org/b"), blob, lambda _s: iter([b"only at home"]))
        assert len(mirror.requests) == asked
        with pytest.raises(NotFoundError) as caught:
            client.document(origin.reference("org/app", "v3"))
        assert origin.host in caught.value.message


def test_blob_goes_on_at_the_next_place(connect, tmp_path):
    content = bytes(range(256)) * 10_000
    with FakeRegistry() as mirror, FakeRegistry() as origin:
        blob = mirror.add_blob("org/app", content)
        origin.add_blob("org/app", content)
        mirror.fault("GET", "/blobs/", cut_after=1_000_000)
        mirror.fault("GET", "/blobs/", times=99, status=403)
        conf = tmp_path / "registries.conf"
        conf.write_text(f"[[registry]]\nlocation = '{origin.host}'\n[[registry.mirror]]\nlocation = '{mirror.host}'\n")
        client = connect(origin, registries_conf=conf, insecure=frozenset({origin.host, mirror.host}))
        assert client.blob_bytes(origin.reference("org/app"), blob, 10**7) == content
        assert [r.status for r in origin.log("GET", "/blobs/")] == [206]


def test_blocked_registry_is_not_asked(connect, tmp_path):
    with FakeRegistry() as registry:
        conf = tmp_path / "registries.conf"
        conf.write_text(f"[[registry]]\nlocation = '{registry.host}'\nblocked = true\n")
        client = connect(registry, registries_conf=conf)
        reference = registry.reference("org/app", "v1")
        for ask in (
            client.document,
            client.head,
            lambda r: client.has_blob(r, DIGEST),
            lambda r: client.put_manifest(r, b"{}", "a/b"),
        ):
            with pytest.raises(RegistryRefusedError, match="blocks"):
                ask(reference)
        assert registry.requests == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[[registry]]\nprefix = "quay.io"\nblockd = true\n', "number 1 (prefix 'quay.io'): unknown key 'blockd'"),
        (
            '[[registry]]\nlocation = "a.b"\n[[registry]]\nlocation = "c.d"\nmirrors = []\n',
            "number 2 (prefix 'c.d'): unknown key",
        ),
        (
            '[[registry]]\nprefix = "quay.io"\n[[registry.mirror]]\nlocation = "a.b"\ninsecur = true\n',
            "[[registry.mirror]] number 1: unknown key 'insecur'",
        ),
        ('[registries.search]\nregistries = ["quay.io"]\n', "version 1 of the format"),
    ],
)
def test_what_nobody_would_act_on_is_refused_with_its_place(tmp_path, text, told):
    with pytest.raises(UsageError, match=r"registries\.conf") as caught:
        _hosts(tmp_path, text)
    assert told in caught.value.message
    assert caught.value.hint


def test_an_unknown_table_is_a_warning(tmp_path, caplog):
    _hosts(tmp_path, 'future-key = 1\n[[registry]]\nprefix = "quay.io"\n')
    assert "unknown key 'future-key' is ignored" in caplog.text
