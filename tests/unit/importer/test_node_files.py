"""Drop-ins for the nodes of another Kubernetes: what each container runtime makes of them.

containerd asks the hosts of DIRECTORY/REGISTRY/hosts.toml in their order, each below /v2 unless `override_path` is set
(containerd/containerd, docs/hosts.md; core/remotes/docker/config/hosts.go); CRI-O takes the mirrors of the longest prefix
(containers-registries.conf(5)). Without them the catalog is served and no operator can be pulled
(operator-lifecycle-manager#3200, #1998).
"""

from __future__ import annotations

import tomllib
from dataclasses import replace

import pytest
import trustme

from common.errors import UsageError
from importer.cluster.release import Release
from importer.cluster.resources.build import ResourceOptions
from importer.configure.files.earlier import NONE, read_earlier
from importer.configure.files.node_files import REGISTRIES_CONF
from importer.configure.files.render import render_archive
from importer.mapping import Mirror
from importer.workflow import write_files
from tests.fakes.inventories import A, B, image, inventory
from tests.fakes.wanted import CA

MIRROR = Mirror.parse("mirror.example:5000/hub")
BUNDLE, OPERAND, TAGGED = f"quay.io/x/alpha-bundle@{A}", f"registry.redhat.io/x/y/z@{B}", "docker.io/library/tool:v1"


def files(*sources, mirror=MIRROR, ca=CA, earlier=NONE, insecure=False, **fields):
    carried = inventory(*(image(each, tag="v1") for each in sources), *fields.get("more", ()))
    found, built = render_archive(carried, mirror, None, ResourceOptions(registry_ca=ca), earlier, insecure=insecure)
    return found, [one for one in built.problems if one.code == "source-unredirectable"]


def containerd(found, source):
    """Return the addresses of the manifests that containerd asks for, as `hosts.go` makes them."""
    registry, _, path = source.partition("@")[0].partition("/")
    content = found.get(f"nodes/etc/containerd/certs.d/{registry}/hosts.toml")
    hosts = tomllib.loads(content.decode())["host"] if content else {}
    return [f"{host}{'' if each.get('override_path') else '/v2'}/{path}" for host, each in hosts.items()]


def crio(found, source):
    """Return the mirrors that CRI-O asks."""
    name = source.partition("@")[0]
    entries = tomllib.loads(found[REGISTRIES_CONF].decode())["registry"]
    (entry,) = [each for each in entries if each["prefix"] == name]
    assert entry["location"] == name  # a prefix without a location is refused
    return [each["location"] for each in entry["mirror"]]


def test_both_runtimes_find_each_image_on_the_mirror():
    found, problems = files(BUNDLE, OPERAND, TAGGED)
    assert not problems
    for source, path in ((BUNDLE, "x/alpha-bundle"), (OPERAND, "x/y/z"), ("docker.io/library/tool@", "library/tool")):
        assert containerd(found, source) == [f"https://mirror.example:5000/v2/hub/{path}"]
        assert crio(found, source) == [f"mirror.example:5000/hub/{path}"]
    hosts = tomllib.loads(found["nodes/etc/containerd/certs.d/quay.io/hosts.toml"].decode())["host"]
    (options,) = hosts.values()
    assert options["capabilities"] == ["pull", "resolve"]
    # The CA for the mirror by its own name too, by which the CatalogSource has its image.
    for folder in ("containerd", "containers"):
        assert found[f"nodes/etc/{folder}/certs.d/mirror.example:5000/ca.crt"].decode() == CA
    assert options["ca"] == "../mirror.example:5000/ca.crt"
    assert "nodes" not in found["kustomization.yaml"].decode()


def test_a_mirror_without_a_prefix_or_with_the_host_of_the_source():
    """Neighbours: --keep-source-host has one path for each registry."""
    assert containerd(files(BUNDLE, mirror=Mirror.parse("m.example"))[0], BUNDLE) == ["https://m.example/v2/x/alpha-bundle"]
    kept = Mirror.parse("m.example/hub", keep_source_host=True)
    found, _ = files(BUNDLE, OPERAND, mirror=kept)
    assert containerd(found, BUNDLE) == ["https://m.example/v2/hub/quay.io/x/alpha-bundle"]
    assert containerd(found, OPERAND) == ["https://m.example/v2/hub/registry.redhat.io/x/y/z"]


def test_a_path_that_containerd_cannot_be_led_to_is_a_problem_and_crio_finds_it():
    """containerd does not rename repositories (containerd#5672)."""
    found, problems = files(BUNDLE, OPERAND, mirror=Mirror.parse("m.example/hub", max_path_components=3))
    assert [one.subject for one in problems] == ["registry.redhat.io/x/y/z"]
    assert containerd(found, OPERAND) == []
    assert crio(found, OPERAND) == ["m.example/hub/x/y-z"]


def test_an_insecure_mirror_is_reached_over_either_protocol():
    found, _ = files(BUNDLE, ca=None, insecure=True)
    assert containerd(found, BUNDLE) == [f"{kind}://mirror.example:5000/v2/hub/x/alpha-bundle" for kind in ("https", "http")]
    assert containerd(found, "mirror.example:5000/hub/x@")[0] == "https://mirror.example:5000/v2/hub/x"
    entries = tomllib.loads(found[REGISTRIES_CONF].decode())["registry"]
    assert entries[0] == {"prefix": "mirror.example:5000", "location": "mirror.example:5000", "insecure": True}
    assert all(mirror["insecure"] for entry in entries for mirror in entry.get("mirror", ()))


def test_drop_ins_only_grow_when_they_are_merged(tmp_path):
    write_files(tmp_path, files(BUNDLE)[0])
    merged, _ = files(OPERAND, earlier=read_earlier(tmp_path))
    assert crio(merged, BUNDLE)
    assert containerd(merged, BUNDLE)
    write_files(tmp_path, merged)
    assert files(OPERAND, earlier=read_earlier(tmp_path))[0] == merged
    (tmp_path / REGISTRIES_CONF).write_text("[[registry]]\nmirror = [{location = 'm'}]")
    with pytest.raises(UsageError, match=r"50-hub-import\.conf: not a drop-in"):
        read_earlier(tmp_path)


OLD = Mirror.parse("old.example/hub")


def options(found, mirror):
    """Return what containerd is told about the hosts below a mirror, and whether CRI-O may be without verification there."""
    hosts = tomllib.loads(found["nodes/etc/containerd/certs.d/quay.io/hosts.toml"].decode())["host"]
    entries = tomllib.loads(found[REGISTRIES_CONF].decode())["registry"]
    flags = {m.get("insecure", False) for each in entries for m in each.get("mirror", ()) if m["location"].startswith(mirror)}
    (flag,) = flags
    return [
        (name.partition(":")[0], each.get("ca"), each.get("skip_verify")) for name, each in hosts.items() if mirror in name
    ], flag


def test_a_later_render_takes_no_trust_from_nodes(tmp_path):
    """Seen before: without --ca, the second render left the `ca` out of hosts.toml, and containerd trusted the mirror no more."""
    write_files(tmp_path, files(BUNDLE)[0])
    merged, _ = files(OPERAND, BUNDLE, ca=None, earlier=read_earlier(tmp_path))
    assert options(merged, "mirror.example") == ([("https", "../mirror.example:5000/ca.crt", None)], False)
    for folder in ("containerd", "containers"):  # also where --output is another directory
        assert merged[f"nodes/etc/{folder}/certs.d/mirror.example:5000/ca.crt"].decode() == CA


@pytest.mark.parametrize("insecure", [True, False])
def test_the_options_of_one_mirror_are_not_those_of_another(tmp_path, insecure):
    """Seen before: --insecure of a new mirror let nodes reach the former one over plain HTTP, without verification."""
    write_files(tmp_path, files(BUNDLE, mirror=OLD, ca=None if insecure else CA, insecure=insecure)[0])
    merged, _ = files(BUNDLE, ca=CA if insecure else None, insecure=not insecure, earlier=read_earlier(tmp_path))
    open_hosts = ([("https", None, True), ("http", None, None)], True)
    mirrors = ("old.example", "mirror.example:5000") if insecure else ("mirror.example:5000", "old.example")
    assert options(merged, mirrors[0]) == open_hosts
    assert options(merged, mirrors[1]) == ([("https", f"../{mirrors[1]}/ca.crt", None)], False)
    # Neighbour: the mirror of this render is verified again, as its options say.
    again, _ = files(BUNDLE, mirror=OLD, ca=None, insecure=False, earlier=read_earlier(tmp_path))
    assert options(again, "old.example")[1] is False


@pytest.mark.parametrize("release", [None, Release(4, 18, microshift=True), Release(4, 18, hosted=True), Release(4, 18)])
def test_a_private_key_next_to_the_ca_stays_on_the_machine(release):
    """Seen before: in files for every node, and in the trust bundle of a HostedCluster."""
    key = trustme.CA().private_key_pem.bytes().decode()
    hosted = release is not None and release.hosted
    options = ResourceOptions(catalog_names={"": "mine"}, registry_ca=key + CA, hosted=hosted)
    found, _ = render_archive(inventory(image(BUNDLE)), MIRROR, release, options)
    assert any(CA.strip().splitlines()[1].encode() in each for each in found.values())
    assert not any(b"PRIVATE" in each or key.splitlines()[1].encode() in each for each in found.values())
    with pytest.raises(UsageError, match="--ca: the file has no certificate"):
        render_archive(inventory(image(BUNDLE)), MIRROR, release, replace(options, registry_ca=key))


@pytest.mark.parametrize(("prefix", "location"), [("..", "m"), ("a", "../x"), ("a", "./x"), ("/etc", "m"), ("a\\u0000", "m")])
def test_a_registry_of_an_earlier_file_is_no_way_out_of_the_directory(tmp_path, prefix, location):
    write_files(tmp_path, files(BUNDLE)[0])
    (tmp_path / REGISTRIES_CONF).write_text(f'[[registry]]\nprefix = "{prefix}"\nmirror = [{{location = "{location}"}}]')
    with pytest.raises(UsageError, match="is no registry"):
        read_earlier(tmp_path)


def test_an_earlier_ca_without_a_certificate_is_named(tmp_path):
    write_files(tmp_path, files(BUNDLE)[0])
    (tmp_path / "nodes/etc/containers/certs.d/mirror.example:5000/ca.crt").write_text("lost")
    with pytest.raises(UsageError, match=r"--merge .*ca\.crt: the file has no certificate"):
        read_earlier(tmp_path)


@pytest.mark.parametrize("first", [None, Release(4, 18, hosted=True), Release(4, 18)])
@pytest.mark.parametrize("second", [Release(4, 18, microshift=True), Release(4, 18, hosted=True), Release(4, 18)])
def test_an_earlier_render_for_another_kind_of_cluster_is_refused(tmp_path, first, second):
    """Seen before: an ImageDigestMirrorSet in the files of a guest, or of a Kubernetes without the kind; rules that went away."""

    def rendered(release, earlier=NONE):
        options = ResourceOptions(catalog_names={"": "mine"}, hosted=release is not None and release.hosted)
        return render_archive(inventory(image(BUNDLE)), MIRROR, release, options, earlier)[0]

    write_files(tmp_path, rendered(first))
    if first == second and first.hosted == second.hosted and not second.microshift:
        assert rendered(second, read_earlier(tmp_path)) == rendered(first)
    elif first is None and second.microshift:
        assert rendered(second, read_earlier(tmp_path))[REGISTRIES_CONF]
    else:
        with pytest.raises(UsageError, match="--merge: the earlier render has mirror rules for"):
            rendered(second, read_earlier(tmp_path))
