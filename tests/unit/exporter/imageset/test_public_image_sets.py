"""Image sets of the shapes that public files have (tests/data/imagesets), and how each is read, or why it is refused.

What oc-mirror accepts is in openshift/oc-mirror, v1/pkg/config/load.go and v2/internal/pkg/config/config.go.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from common.errors import UsageError
from exporter.imageset import file, placeholders
from exporter.imageset.model import ChannelRequest, ImageSet, PackageRequest
from exporter.imageset.releases import PlatformRequest, ReleaseChannel
from tests.spent import spent

FILES = Path("tests/data/imagesets")  # from where the tests run, as one of the files names another by a relative path
DIGEST = "sha256:" + "0123456789abcdef" * 4
OTHER = "sha256:" + "fedcba9876543210" * 4

READ: dict[str, list[str]] = {
    "one-image": ["image registry.example/tools/shell:latest"],
    "releases-alone": ["4 GiB", "note 4 storageConfig", "releases stable-4.15@4.15.47..4.15.47 for amd64, with graph data"],
    "releases-shortest-path": ["releases stable-4.14@4.14.1..4.14.4 (shortest path) for amd64, with graph data"],
    "releases-architectures": ["releases stable-4.16@4.16.2..4.16.2 for amd64, arm64, s390x, with graph data"],
    "releases-by-image": ["releases quay.io/openshift-release-dev/ocp-release:4.16.2-x86_64 for amd64"],
    "releases-okd": ["releases stable-scos-4@4.18.0-okd-scos.4..4.18.0-okd-scos.8 (okd) for amd64"],
    "releases-kubevirt": ["releases stable-4.18@4.18.2..4.18.2 for amd64, with kubevirt"],
    "releases-platforms": ["releases stable-4.18 for multi of linux/amd64, linux/arm64"],
    "releases-eus": ["releases eus-4.16@4.16.3..4.16.3, eus-4.18@4.18.2..4.18.2 for amd64, with graph data"],
    "releases-full": ["releases fast-4.12 (full) for amd64"],
    "releases-maximum-alone": ["releases stable-4.12@..4.12.2 for amd64"],
    "releases-graph-alone": ["releases  for amd64, with graph data"],
    "releases-unknown-channel": ["releases stable-4.81@4.18.1.. for amd64"],
    "releases-no-path": ["releases stable-4.14@4.14.1..4.15.3 (shortest path) for amd64"],
    "template-of-init": [
        "registry.example/vendor/index:v4.16: foo-operator [stable]",
        "image registry.example/tools/shell:latest",
        "note 3 storageConfig",
        "releases stable-4.16 for amd64",
    ],
    "local-storage-one-space": [
        "registry.example/vendor/index:v4.12: foo-operator [latest]",
        "4 GiB",
        "note 11 storageConfig",
    ],
    "pinned-channels": [
        (
            "registry.example/vendor/index:v4.14: foo-operator [stable@5.7.0..5.7.0, 5.6.x@5.6.3-12..5.6.3-12], "
            "bar-operator [stable@4.14.0-202403081116..4.14.0-202403081116]"
        ),
        "note 3 storageConfig",
        "releases stable-4.14@4.14.4..4.14.6 for amd64, with graph data",
    ],
    "range-of-package": [
        "registry.example/community/index:v4.17: foo-operator@2.9.1..2.9.1 [stable], bar-operator@1.18.0..",
    ],
    "minimum-alone": ["registry.example/vendor/index:v4.18: foo-operator [release-2.8@2.8.0..], bar-operator [v1@..1.9]"],
    "okd": ["registry.example/community/index:latest: foo-operator", "releases 4-scos-stable (okd) (shortest path) for amd64"],
    "kubevirt-container": [
        "registry.example/vendor/index:v4.19: foo-operator",
        "registry.example/community/index:v4.19: baz-operator",
        "32 GiB",
        "releases stable-4.18@4.18.19..4.18.19, stable-4.19@4.19.20..4.19.20 for multi, amd64 of linux/amd64, with kubevirt",
    ],
    "local-charts-and-samples": [
        "image registry.example/tools/shell:v1",
        "left out mirror.helm 6",
        "left out mirror.samples 10",
    ],
    "full": [
        "registry.example/vendor/index:v4.10 (full): foo-operator [stable], bar-operator [4.10]",
        f"registry.example/team/index@{DIGEST} (full): ",
    ],
    "catalogs-without-packages": [
        "registry.example/vendor/index:v4.12: ",
        "registry.example/community/index:v4.12: ",
        "image localhost:5000/test/hello:v0.0.1",
        "note 5 storageConfig",
        "note 15 packages",
    ],
    "default-channels": [
        (
            "registry.example/vendor/index:v4.21 → marketplace/vendor-operators: "
            "foo-operator (stable-4.21) [stable-4.21@v4.21.8-build..v4.21.8-build], bar-operator (latest) [latest]"
        ),
    ],
    "target-and-tag": ["registry.example/vendor/index:v4.13 → vendors/one/index:v4.13.0: foo-operator"],
    "target-name": ["registry.example/vendor/index:v4.11 → vendor/vendor-subset:v4.11-2: foo-operator", "note 6 targetName"],
    "catalog-source-template": [f"registry.example/vendor/index:v4.15 ({FILES}/catalog-source.template): foo-operator"],
    "catalogs-by-digest": [
        f"registry.example/team/fragment@{DIGEST} → team/fragment: foo-operator [fast]",
        f"registry.example/vendor/index:v4.18@{OTHER}: bar-operator",
    ],
    "images-as-written": [
        "image registry.example/tools/support",
        f"image registry.example/tools/base@{DIGEST}",
        "image registry.example/tools/agent:1.12",
        f"image registry.example/tools/both:1.0@{OTHER}",
        "image localhost:5000/test/hello:v0.0.1",
        "image registry.example/tools/driver:8.0.200-el8.6-4.18.0-372.26.1.el8_6.x86_64",
    ],
    "blocked-images": [
        "registry.example/vendor/index:v4.18: foo-operator",
        "blocked alpine",
        "blocked registry.example/vendor/old-.*",
    ],
    "names-in-other-case": [
        "registry.example/vendor/index:v4.12: foo-operator [stable@1.2.0..]",
        "image registry.example/tools/database:1-173",
    ],
    "windows-lines": [
        "registry.example/vendor/index:v4.16: foo-operator [stable]",
        "image registry.example/tools/shell:latest",
        "note 3 storageConfig",
        "releases stable-4.16 for amd64",
    ],
    "byte-order-mark": ["image registry.example/tools/shell:latest"],
    "shared-packages": [
        "registry.example/vendor/index:v4.17: foo-operator [stable], bar-operator",
        "registry.example/vendor/index:v4.18: foo-operator [stable], bar-operator",
    ],
    "json": ["registry.example/vendor/index:v4.14 → :20240131: foo-operator [stable]", "4 GiB", "note 4 storageConfig"],
    "quoted-keys": [
        "registry.example/vendor/index:v4.16: foo-operator [stable]",
        "releases stable-4.16@4.16.0..4.16.99 for amd64, with graph data",
    ],
    "label-selectors": ["registry.example/vendor/index:v4.21: foo-operator, bar-operator", "note 9 selectors"],
    "chart-values": ["image registry.example/tools/shell:v1", "left out mirror.helm 4"],
    "document-end": ["image registry.example/tools/shell:latest"],
    "metadata": ["image registry.example/tools/shell:latest"],
    "two-releases": [
        "registry.example/vendor/index:v4.14: foo-operator, bar-operator",
        "registry.example/vendor/index:v4.15: foo-operator, bar-operator",
    ],
    "empty-inside": [
        "registry.example/vendor/index:v4.18: ",
        "registry.example/community/index:v4.18: foo-operator",
        "note 9 packages",
    ],
}

# Line and words of each fault, then words of the advice. oc-mirror refuses all of these, but for the versions that are mistyped
# or missing: its v2 does not look at them.
REFUSED: dict[str, tuple[list[tuple[int, str]], str]] = {
    "charts": ([(6, "mirror.platform: unknown field 'releases'")], "One release is named by its image: release"),
    "releases-bounds-swapped": (
        [(6, "minVersion 4.12.9 is above maxVersion 4.12.2"), (9, "'4.13' is no version of a release")],
        "three numbers",
    ),
    "releases-mistyped": (
        [(5, "'x86_64' is no architecture"), (8, "'ocpp'"), (9, "wanted fields")],
        "Write amd64",
    ),
    "charts-alone": ([(4, "mirror.helm: hub-export carries operators, releases and images")], "List mirror.operators"),
    "layout-on-disk": ([(5, "catalog: oci:///srv/catalogs/own: no such file or directory")], "oci:DIRECTORY"),
    "target-name-of-v2": ([(6, "unknown field 'targetName'")], "targetCatalog"),
    "blocked-images-as-text": ([(9, "a blocked image"), (10, "a blocked image")], "Write `- name: …`"),
    "one-name-in-two-cases": (
        [(6, "'additionalimages' and 'additionalImages' on line 4 are one field")],
        "Take one of them out",
    ),
    "two-documents": ([(6, "a second document")], "file of its own"),
    "jinja-blocks": (
        [
            (4, "'{% if mirror_platform %}' is a placeholder"),
            (7, "'{{ release }}'"),
            (8, "'{% endif %}'"),
            (10, "'{{ release }}'"),
        ],
        "Render",
    ),
    "jinja-values": ([(5, "{{ index | default("), (7, "'{{ operator_name }}'")], "Render"),
    "jinja-in-quotes": ([(5, "'{{ index }}'"), (7, "'{{ operator_name }}'"), (8, "'{{ version }}'")], "Render"),
    "shell-variables": (
        [(5, "'${REGISTRY}'"), (8, "'${INDEX}'"), (12, "'${RELEASE}'"), (13, "'${VERSION}'"), (15, "'$REGISTRY'")],
        "Render",
    ),
    "variables-in-names": ([(9, "'${RELEASE}' is a placeholder")], "Render"),
    "go-template": ([(4, "'{{- if .IncludeOperators}}'"), (6, "'{{.OperatorCatalog}}'"), (8, "'{{- end}}'")], "Render"),
    "places-to-fill-in": (
        [(7, "not a version: 'FOO_VERSION'"), (12, "'<4.x.y-build>' is a placeholder"), (15, "'<region>' is a placeholder")],
        "fill it in",
    ),
    "channel-is-a-number": ([(9, "name: wanted text, got a number"), (12, "a number"), (14, "minVersion")], "Put it in quotes"),
    "package-twice": ([(8, "package foo-operator is there twice"), (15, "channel v1 is there twice")], "make one of both"),
    "packages-in-flow-style": ([(5, "package foo-operator is there twice")], "make one of both"),
    "callouts": ([(3, "'<1>' is a placeholder"), (7, "'<2>'"), (10, "'<3>'"), (12, "'<4>'")], "fill it in"),
    "key-twice": ([(10, "duplicate key 'operators', first on line 4")], ""),
    "tabs": ([(6, "found a tab character that violates indentation")], ""),
    "list-and-fields": ([(7, "not YAML")], ""),
    "operators-without-list": ([(4, "operators: wanted a list, got fields")], "`- `"),
    "names-as-text": ([(7, "a package: wanted fields"), (9, "a channel"), (11, "an additional image")], "Write `- name: …`"),
    "spec": ([(7, "unknown field 'spec'")], "one level up"),
    "version-mistyped": ([(2, "apiVersion is 'mirror.openshift.io/v2alpha2'")], "mirror.openshift.io/v2alpha1"),
    "version-missing": ([(2, "apiVersion is missing")], "mirror.openshift.io/v2alpha1"),
    "version-v1alpha1": (
        [
            (1, "v1alpha1"),
            (4, "unknown field 'ocp'"),
            (9, "unknown field 'headsOnly'"),
            (12, "unknown field 'startingVersion'"),
        ],
        "minVersion",
    ),
    "version-of-a-first-preview": ([(1, "apiVersion is 'preview.example/v1alpha1'"), (6, "unknown field 'headsonly'")], "full"),
    "delete": ([(2, "kind is 'DeleteImageSetConfiguration'")], "Wanted: ImageSetConfiguration"),
    "kind-alone": ([(1, "apiVersion is missing"), (0, "asks for nothing")], "List mirror.operators"),
    "bundles": ([(8, "unknown field 'bundles'")], "minVersion"),
}


def package(one: PackageRequest) -> str:
    channels = ", ".join(one.name + bounds(one) for one in one.channels)
    default = f" ({one.default_channel})" if one.default_channel else ""
    return one.name + default + bounds(one) + (f" [{channels}]" if channels else "")


def bounds(one: PackageRequest | ChannelRequest) -> str:
    return f"@{one.min_version}..{one.max_version}" if one.min_version or one.max_version else ""


def channel(one: ReleaseChannel) -> str:
    bounds = f"@{one.min_version}..{one.max_version}" if one.min_version or one.max_version else ""
    return f"{one.name}{bounds}{' (okd)' if one.okd else ''}{' (shortest path)' if one.shortest_path else ''}{' (full)' if one.full else ''}"


def releases(one: PlatformRequest) -> str:
    marks = f" of {', '.join(map(str, one.platforms))}" if one.platforms else ""
    marks += f"{', with graph data' if one.graph else ''}{', with kubevirt' if one.kubevirt else ''}"
    return f"{', '.join(one.architectures)}{marks}"


def reading(found: ImageSet) -> Iterator[str]:
    """Give all that an image set asks for, a line each."""
    for one in found.operators:
        target = (one.target_catalog or "") + (f":{one.target_tag}" if one.target_tag else "")
        marks = " (full)" if one.full else ""
        marks += f" ({one.target_catalog_source_template})" if one.target_catalog_source_template else ""
        marks += f" → {target}" if target else ""
        yield f"{one.catalog}{marks}: {', '.join(map(package, one.packages))}"
        assert (one.platforms, one.skip_dependencies) == ((), False)
    for image in found.additional_images:
        yield f"image {image.name}"
        assert (image.target_repo, image.target_tag, image.platforms) == (None, None, ())
    yield from (f"blocked {pattern}" for pattern in found.blocked_images)
    if found.archive_size_gib:
        yield f"{found.archive_size_gib} GiB"
    for note in found.notes:
        _, line, text = note.split(":", 2)
        yield f"note {line} {text.split()[0]}"
    if found.platform.asks:
        yield f"releases {found.platform.release}{', '.join(map(channel, found.platform.channels))} for {releases(found.platform)}"
    for problem in found.problems:
        yield f"left out {problem.subject} {problem.message.split(':')[1]}"


def test_each_file_has_an_expectation() -> None:
    assert {one.stem for one in FILES.glob("*.yaml")} == READ.keys() | REFUSED.keys()
    assert not READ.keys() & REFUSED.keys()


@pytest.mark.parametrize("name", READ)
def test_it_is_read_as_it_is(name: str) -> None:
    assert list(reading(file.read(FILES / f"{name}.yaml"))) == READ[name]


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_with_every_fault_and_advice(name: str) -> None:
    faults, advice = REFUSED[name]
    with pytest.raises(UsageError) as raised:
        file.read(FILES / f"{name}.yaml")
    said = f"{raised.value.message}\n{raised.value.hint}"
    lines = [line for line in raised.value.message.splitlines() if not line.endswith(" faults:")]
    assert len(lines) == len(faults), said
    for number, words in faults:
        place = f"{name}.yaml:{number}: " if number else ""
        assert any(place in line and words in line for line in lines), (number, words, said)
    assert advice in said


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("- name: a # {{ b }}", None),
        ("# ${X}", None),
        ("- name: ^foo$|bar$", None),
        ("- name: (?P<kind>a)|(?<=x)b", None),
        ("a: &x\n  <<: *y", None),
        ("- name: x#${Y}", "${Y}"),
        ("- name: registry.example/a:v1 <1>", "<1>"),
        ("- name: $(cat name)", "$(cat name)"),
        ("- name: {{ a }}{{ b }}", "{{ a }}"),
        ("- name: {{ " + "a" * 99, "{{ aaaaaaaaaaaaaaaaa"),
    ],
)
def test_placeholders_are_told_from_patterns_and_comments(line: str, found: str | None) -> None:
    assert [each for _, each in placeholders.lines(line)] == ([found] if found else [])


def test_a_placeholder_in_what_is_not_read_is_no_fault(tmp_path: Path) -> None:
    text = (FILES / "metadata.yaml").read_text().replace("some-images", "some-images\n  annotations: {from: '{{ x }}'}")
    (tmp_path / "set.yaml").write_text(text)
    assert len(file.read(tmp_path / "set.yaml").additional_images) == 1


def test_placeholders_are_cut_and_long_lines_cost_little() -> None:
    assert len(list(placeholders.lines("- name: ${X}\n" * 10_000))) == placeholders.MAX_LINES
    for begin in ("<a", "<" + "a" * 80, "$", "{", "<<{$", " #", "{{ <"):
        line = begin * (500_000 // len(begin))
        found = spent(lambda line=line: list(placeholders.lines(line)))
        assert (found.error, found.cpu < 1) == ("", True), begin
