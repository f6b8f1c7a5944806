"""`mirror.platform` of image sets, and the flags with the same meaning."""

import json

import pytest

from common.errors import UsageError
from common.oci.image import Platform
from exporter.imageset import file, model
from exporter.imageset.releases import PlatformRequest, ReleaseChannel, channel_of_flag, request_of_flags

HEAD = "apiVersion: mirror.openshift.io/v2alpha1\nkind: ImageSetConfiguration\nmirror:\n"


def asked(tmp_path, platform, head=HEAD):
    path = tmp_path / "set.yaml"
    path.write_text(f"{head}  platform: {platform}\n")
    return file.read(path)


def refused(tmp_path, platform):
    with pytest.raises(UsageError) as caught:
        asked(tmp_path, platform)
    return f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize(
    ("platform", "request_"),
    [
        ("{channels: [{name: stable-4.18}]}", PlatformRequest((ReleaseChannel("stable-4.18"),))),
        (
            "{CHANNELS: [{Name: eus-4.18, type: ocp, minversion: 4.16.20, maxVersion: 4.18.30, shortestPath: true}], graph: true}",
            PlatformRequest(
                (ReleaseChannel("eus-4.18", min_version="4.16.20", max_version="4.18.30", shortest_path=True),), graph=True
            ),
        ),
        (
            "{channels: [{name: stable-scos-4, type: okd, minVersion: 4.18.0-okd-scos.8, full: false}]}",
            PlatformRequest((ReleaseChannel("stable-scos-4", okd=True, min_version="4.18.0-okd-scos.8"),)),
        ),
        (
            "{channels: [{name: fast-4.18, full: true}], architectures: [arm64, multi, arm64], kubeVirtContainer: true}",
            PlatformRequest((ReleaseChannel("fast-4.18", full=True),), ("arm64", "multi"), kubevirt=True),
        ),
        (
            "{channels: [{name: stable-4.18}], platforms: [{os: linux, architecture: arm64}]}",
            PlatformRequest((ReleaseChannel("stable-4.18"),), ("multi",), platforms=(Platform("linux", "arm64"),)),
        ),
        ("{release: 'docker://quay.io/a/b:4.18.3-x86_64'}", PlatformRequest(release="quay.io/a/b:4.18.3-x86_64")),
        ("{graph: true}", PlatformRequest(graph=True)),
    ],
)
@pytest.mark.parametrize("version", ["v2alpha1", "v1alpha2"])
def test_the_section_is_read(tmp_path, platform, request_, version):
    image_set = asked(tmp_path, platform, HEAD.replace("v2alpha1", version))
    assert (image_set.platform, image_set.problems, image_set.notes) == (request_, (), ())


@pytest.mark.parametrize(
    ("platform", "words"),
    [
        ("{channels: [{name: stable-4.18, minVersion: '4.18'}]}", "'4.18' is no version of a release"),
        ("{channels: [{name: stable-4.18, maxVersion: v4.18.3}]}", "hub-export list --release stable-4.18 shows them"),
        ("{channels: [{name: a, minVersion: 4.18.9, maxVersion: 4.18.3}]}", "minVersion 4.18.9 is above maxVersion 4.18.3"),
        ("{channels: [{name: a, full: true, minVersion: 4.18.9}]}", "full and a version range exclude each other"),
        ("{channels: [{name: Stable 4}]}", "'Stable 4' is no channel"),
        ("{channels: [{name: '4.18'}]}", "'4.18' is a version and no channel Write stable-4.18."),
        ("{channels: [{name: 4.18.1}]}", "Write stable-4.18, and 4.18.1 as minVersion and maxVersion."),
        ("{channels: [{}]}", "name is missing or empty"),
        ("{channels: [{name: a, type: OCP}]}", "'OCP' is no type of a channel Wanted: ocp or okd."),
        ("{architectures: [x86_64], graph: true}", "'x86_64' is no architecture of releases Write amd64."),
        ("{architectures: [riscv], graph: true}", "Wanted: amd64, arm64, ppc64le, s390x, multi."),
        ("{architectures: [64], graph: true}", "architectures: wanted text, got a number"),
        ("{release: 'quay.io/A/b'}", "set.yaml:4"),
        ("{channels: [{name: a, version: 4.18.3}]}", "Write minVersion and maxVersion, the same for one version."),
        ("{architectures: [amd64]}", "mirror.platform: it asks for nothing"),
    ],
)
def test_a_fault_has_a_line_and_an_advice(tmp_path, platform, words):
    message = refused(tmp_path, platform)
    assert "set.yaml:4" in message
    assert words in message


def test_what_has_no_effect_is_noted(tmp_path):
    notes = asked(tmp_path, "{release: quay.io/a/b:v1, channels: [{name: stable-4.18}]}").notes
    assert [note.partition(": ")[2] for note in notes] == ["channels has no effect next to release"]
    notes = asked(tmp_path, "{graph: true, kubeVirtContainer: true}").notes
    assert [note.partition(": ")[2] for note in notes] == ["kubeVirtContainer has no effect without a release"]


def test_the_image_set_of_an_older_inventory_is_read_whatever_its_section_has():
    """Archives made before releases were carried recorded it as it was."""
    document = {
        "apiVersion": "mirror.openshift.io/v2alpha1",
        "kind": "ImageSetConfiguration",
        "mirror": {"platform": {"channels": [{"name": "STABLE", "other": 1}], "more": True}},
    }
    assert file.of_document(document, "inventory").platform == PlatformRequest()


@pytest.mark.parametrize(
    ("text", "channel"),
    [
        ("stable-4.18", ReleaseChannel("stable-4.18")),
        ("stable-4.18@4.18.3", ReleaseChannel("stable-4.18", min_version="4.18.3", max_version="4.18.3")),
        ("stable-4.18@4.18.3..", ReleaseChannel("stable-4.18", min_version="4.18.3")),
        ("stable-4.18@..4.18.3", ReleaseChannel("stable-4.18", max_version="4.18.3")),
        ("eus-4.18@4.16.1..4.18.3", ReleaseChannel("eus-4.18", min_version="4.16.1", max_version="4.18.3")),
    ],
)
def test_a_flag_names_a_channel_and_a_range(text, channel):
    assert channel_of_flag(text) == channel


@pytest.mark.parametrize("text", ["", "@4.18.3", "stable-4.18@", "stable-4.18@..", "a b", "stable-4.18@4.18", "stable_4"])
def test_a_flag_that_cannot_be_read_is_refused(text):
    with pytest.raises(UsageError, match="--release"):
        channel_of_flag(text)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("4.18", "stable-4.18"),
        ("v4.18", "stable-4.18"),
        ("4.18.1", "stable-4.18@4.18.1"),
        ("v4.18.1", "stable-4.18@4.18.1"),
        ("4.18.1..4.18.5", "stable-4.18@4.18.1..4.18.5"),
        ("4.16.30..4.18.5", "stable-4.18@4.16.30..4.18.5"),
        ("4.18.1..", "stable-4.18@4.18.1.."),
        ("4.16..4.18", "stable-4.18"),
        ("4.18@4.18.3..4.18.9", "stable-4.18@4.18.3..4.18.9"),
        ("4.18@4.18", "stable-4.18"),
        ("4.21.0-rc.1", "candidate-4.21@4.21.0-rc.1"),
        ("4.19.0-okd-scos.9", "stable-scos-4@4.19.0-okd-scos.9"),
    ],
)
def test_a_version_is_answered_with_its_channel(text, meant):
    """An update service was asked for a channel of that name."""
    with pytest.raises(UsageError, match="is a version") as caught:
        channel_of_flag(text)
    assert caught.value.hint.startswith(f"Write --release {meant}; ")
    channel_of_flag(meant)


def test_flags_exclude_each_other():
    given = {"channels": ["stable-4.18"], "release": "", "architectures": [], "graph": False, "shortest_path": False}
    for wrong in ({"release": "quay.io/a/b:v1"}, {"channels": [], "architectures": ["arm64"]}, {"architectures": ["x86_64"]}):
        with pytest.raises(UsageError, match="--release"):
            request_of_flags(**(given | wrong))


def test_flags_are_recorded_as_the_document_that_means_the_same(tmp_path):
    request = request_of_flags(
        channels=["stable-4.18@4.18.3..4.18.9"], release="", architectures=["arm64"], graph=True, shortest_path=True
    )
    flags = model.from_flags(platform=request)
    path = tmp_path / "set.json"
    path.write_bytes(json.dumps(flags.as_read).encode())
    assert file.read(path).platform == flags.platform == request
    assert "platform" not in model.from_flags(images=["quay.io/a/b:v1"]).as_read["mirror"]
