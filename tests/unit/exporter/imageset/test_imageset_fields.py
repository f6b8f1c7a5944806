"""Fields of image sets: their names in any case, those of each apiVersion, and those of the project's own.

Sources: openshift/oc-mirror, internal/pkg/api/v2alpha1/type_config.go, pkg/api/v1alpha2/types_config.go and
types_include_config.go, internal/pkg/config/load.go; Go, encoding/json/fold.go.
"""

import json

import pytest

from common.errors import UsageError
from common.oci.image import Platform
from exporter.imageset import file
from exporter.imageset.model import MAX_PATTERNS, ChannelRequest, OperatorRequest, PackageRequest, from_flags
from tests.samples import more

OWN = "hub-airgap/v1"
V2 = "mirror.openshift.io/v2alpha1"
V1 = "mirror.openshift.io/v1alpha2"


def text_of(mirror, version=V2):
    return f"apiVersion: {version}\nkind: ImageSetConfiguration\nmirror:\n{mirror}"


def operators(lines, version=V2):
    """Return a file whose operator begins on line 5; `lines` follow from line 6 on."""
    return text_of(
        "  operators:\n  - catalog: a.b/org/c:d\n" + "".join(f"    {line}\n" for line in lines.splitlines()), version
    )


def read(text):
    return file.parse(text.encode(), "set.yaml")


def refused(text):
    with pytest.raises(UsageError) as caught:
        read(text)
    return f"{caught.value.message} {caught.value.hint}"


def test_names_of_fields_match_in_any_case():
    """Four published files write `additionalimages` or `NAME`, and oc-mirror takes them."""
    text = """\
APIVERSION: mirror.openshift.io/v2alpha1
Kind: ImageSetConfiguration
archivesize: 4
Mirror:
  Operators:
  - CATALOG: a.b/org/c:d
    skipdependencies: true
    Packages:
    - NAME: foo
      minversion: 1.0.0
    - name: bar
      DefaultChannel: stable
      Channels: [{Name: stable, MaxVersion: 2.0.0}]
    platforms: [{OS: linux, Architecture: arm64}]
  additionalimages:
  - NAME: quay.io/a/b:1
    TARGETREPO: x/y
  BlockedImages: [{Name: debug}]
"""
    image_set = read(text)
    assert image_set.operators == (
        OperatorRequest(
            "a.b/org/c:d",
            packages=(
                PackageRequest("foo", min_version="1.0.0"),
                PackageRequest("bar", "stable", channels=(ChannelRequest("stable", "", "2.0.0"),)),
            ),
            platforms=(Platform("linux", "arm64"),),
            skip_dependencies=True,
        ),
    )
    assert [(one.name, one.target_repo) for one in image_set.additional_images] == [("quay.io/a/b:1", "x/y")]
    assert (image_set.blocked_images, image_set.archive_size_gib) == (("debug",), 4)
    # As oc-mirror spells them in the inventory, so that earlier versions read the image set of a re-request.
    again = file.of_document(image_set.as_read, "inventory")
    assert again.operators == image_set.operators
    assert set(image_set.as_read) == {"apiVersion", "kind", "archiveSize", "mirror"}
    assert list(image_set.as_read["mirror"]) == ["operators", "additionalImages", "blockedImages"]


@pytest.mark.parametrize("name", ["\u212aind", "kind", "KIND"])
def test_folding_is_that_of_go(name):
    """The Kelvin sign is a `k` and U+017F an `s` for unicode.SimpleFold; other letters stay different."""
    assert read(text_of("  additionalImage\u017f: [{name: quay.io/a/b:1}]\n").replace("kind", name)).additional_images


@pytest.mark.parametrize("name", ["ope\u0280ators", "operators ", "operator\u00df", *more(["opera\u0442ors", "\u0130mage"])])
def test_what_does_not_fold_is_unknown(name):
    assert f"mirror: unknown field {name!r}" in refused(text_of(f"  {json.dumps(name)}: []\n"))


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (operators("full: true\nFULL: false"), 7, "an operator: 'FULL' and 'full' on line 6 are one field"),
        (text_of("  operators: []\nMIRROR: {}\n"), 5, "the file: 'MIRROR' and 'mirror' on line 3 are one field"),
        (operators("packages:\n- name: foo\n  Name: bar"), 8, "a package: 'Name' and 'name' on line 7 are one field"),
        (operators("full: true") + "  platform:\n    graph: true\n    Graph: false\n", 9, "'Graph' and 'graph' on line 8"),
        (text_of("  additionalImages:\n  - {name: quay.io/a/b:1,\n     nAme: x}\n"), 6, "'nAme' and 'name' on line 5"),
        (operators("anchor: &a {full: true}\n<<: *a\nFull: true"), 8, "'Full' and 'full' on line 6"),
    ],
)
def test_two_names_that_differ_in_case_only_are_an_error_with_both_lines(tmp_path, text, line, words):
    (tmp_path / "set.yaml").write_text(text)
    with pytest.raises(UsageError) as caught:
        file.read(tmp_path / "set.yaml")
    message = caught.value.message
    assert f"set.yaml:{line}: " in message
    assert words in message


TARGETS = {
    "registry.redhat.io/redhat/redhat-operator-index:v4.18": "redhat/mine",
    "quay.io/index:v1": "mine",
    "docker://registry.example:5000/a/b/c@sha256:" + "a" * 64: "a/b/mine",
    "oci:///srv/layouts/index": "mine",
}


@pytest.mark.parametrize("catalog", TARGETS)
def test_target_name_replaces_the_last_component_of_the_path(catalog):
    """v1alpha2, Operator.GetUniqueName: registry and namespace stay."""
    text = text_of(f"  operators:\n  - catalog: {catalog}\n    targetName: mine\n", V1)
    image_set = read(text)
    assert image_set.operators[0].target_catalog == TARGETS[catalog]
    assert image_set.notes == (f"set.yaml:6: targetName is deprecated in oc-mirror: write targetCatalog: {TARGETS[catalog]}",)


def test_other_fields_of_v1alpha2():
    """`targetCatalog` counts before `targetName`; `originalRef` is not used since oc-mirror 4.13."""
    lines = "targetName: mine\ntargetCatalog: x/y\noriginalRef: quay.io/a/b:v1\npackages:\n- {name: foo, minBundle: foo.v1}"
    image_set = read(operators(lines, V1))
    (request,) = image_set.operators
    assert (request.target_catalog, request.packages) == ("x/y", (PackageRequest("foo", min_bundle="foo.v1"),))
    assert image_set.notes == (
        "set.yaml:6: targetName has no effect next to targetCatalog",
        "set.yaml:8: originalRef has no meaning since oc-mirror 4.13",
    )
    bad = refused(operators("targetName: 'a:b'\npackages: [{name: foo, minBundle: x, minVersion: 1.0.0}]", V1))
    assert "set.yaml:6: targetName: 'a:b' is no repository path" in bad
    assert "foo: minVersion and minBundle exclude each other" in bad


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("targetName: x", "write targetCatalog"),
        ("originalRef: x", "take it out"),
        ("TARGETNAME: x", "write targetCatalog"),
        ("packages: [{name: a, minBundle: x}]", "write minVersion"),
    ],
)
@pytest.mark.parametrize("version", [V2, OWN])
def test_a_field_of_v1alpha2_alone_is_refused_elsewhere(version, field, words):
    message = refused(operators(field, version))
    assert "set.yaml:6: " in message
    assert "unknown field" in message
    assert "field of v1alpha2" in message
    assert words in message


def test_every_field_of_v2alpha1_is_known_in_its_sections_too():
    """A file with each field of type_config.go; what is not carried is a problem and no fault."""
    platform = (
        "{graph: true, channels: [{name: stable-4.18, type: ocp, minVersion: 4.18.1, maxVersion: 4.18.9, shortestPath: true, "
        "full: false}], architectures: [amd64], platforms: [{os: linux, architecture: arm64}], release: '', kubeVirtContainer: true}"
    )
    chart = "{name: x, version: 1.0.0, path: ./x.tgz, imagePaths: ['{.spec}'], platforms: []}"
    helm = f"{{repositories: [{{url: 'https://x', name: x, charts: [{chart}]}}], local: [{chart}]}}"
    lines = "full: false\npackages: []\ntargetCatalog: x/y\ntargetTag: z\nskipDependencies: false\nplatforms: []"
    image_set = read(operators(lines) + f"  platform: {platform}\n  helm: {helm}\n  samples: [{{name: x}}]\n")
    assert [one.subject for one in image_set.problems] == ["mirror.helm", "mirror.samples"]


def test_a_section_that_is_not_carried_is_never_lost_in_silence():
    """A misspelt field may have asked for something; names in these match in any case too."""
    (problem,) = read(operators("full: true") + "  HELM: {Local: [{name: x}]}\n").problems
    assert problem.code == "section-not-carried"


def test_the_projects_own_version_has_what_v2alpha1_has_and_more():
    lines = "full: true\nExclude: [odf-*, 'mcg-operator']\ntargetTag: x"
    (request,) = read(operators(lines, OWN)).operators
    assert (request.exclude, request.full, request.target_tag) == (("odf-*", "mcg-operator"), True, "x")
    assert request.excluded(["odf-operator", "mcg-operator", "ODF-x", "a"]) == {"odf-operator", "mcg-operator"}
    (request,) = read(operators("packages:\n- {name: foo, optional: true, minVersion: 1.0.0}\n- name: bar", OWN)).operators
    assert request.packages == (PackageRequest("foo", min_version="1.0.0", optional=True), PackageRequest("bar"))


@pytest.mark.parametrize("version", [V1, V2])
@pytest.mark.parametrize("field", ["exclude: [a]", "packages: [{name: a, optional: true}]", "EXCLUDE: []"])
def test_fields_of_the_project_are_refused_in_files_of_oc_mirror(version, field):
    message = refused(operators(field, version))
    assert "set.yaml:6: " in message
    assert f"write apiVersion: {OWN}" in message


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("exclude: foo", "exclude: wanted a list, got text"),
        ("exclude: [4.2]", "set.yaml:6: exclude: wanted the name of a package, got a number"),
        ("exclude: [{name: foo}]", "set.yaml:6: exclude: wanted the name of a package, got fields"),
        ("exclude: ['']", "exclude: wanted the name of a package, got empty text"),
        ("packages: [{name: foo, optional: 1}]", "optional: wanted true or false"),
        ("packages: [{name: foo}]\nexclude: ['f*']", "package foo is asked for and excluded"),
        (f"exclude: [{', '.join(f'a{n}-*' for n in range(MAX_PATTERNS + 1))}]", "names with wildcards; the limit is 100"),
    ],
)
def test_wrong_values_of_own_fields(lines, words):
    assert words in refused(operators(lines, OWN))


def test_as_many_wildcards_as_allowed():
    (request,) = read(operators(f"exclude: [{', '.join(f'a{n}-*' for n in range(MAX_PATTERNS))}]", OWN)).operators
    assert len(request.excluded(f"a{n}-b" for n in range(1_000))) == MAX_PATTERNS


def test_flags_say_the_same_as_own_fields():
    image_set = from_flags(catalogs=["a.b/c"], packages=["x"], optional=["y:stable@1.0.0"], exclude=["z*"])
    (request,) = image_set.operators
    stable = (ChannelRequest("stable"),)
    assert request.packages == (PackageRequest("x"), PackageRequest("y", "", "1.0.0", "1.0.0", stable, optional=True))
    assert request.exclude == ("z*",)
    assert image_set.as_read["apiVersion"] == OWN
    assert file.of_document(image_set.as_read, "inventory").operators == image_set.operators
    assert from_flags(catalogs=["a.b/c"], packages=["x"]).as_read["apiVersion"] == V2


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"images": ["quay.io/a/b:1"], "exclude": ["x"]}, "--exclude without --catalog"),
        ({"catalogs": ["a.b/c"], "full": True, "exclude": [""]}, "--exclude is empty"),
        ({"catalogs": ["a.b/c"], "packages": ["x"], "optional": ["x"]}, "twice"),
        ({"catalogs": ["a.b/c"], "optional": ["x@"]}, "--optional 'x@' cannot be read"),
        ({"catalogs": ["a.b/c"], "packages": ["x"], "exclude": ["x"]}, "asked for and excluded"),
        ({"catalogs": ["a.b/c"], "exclude": ["x"]}, "--heads"),
    ],
)
def test_flags_of_own_fields_that_make_no_sense(flags, words):
    with pytest.raises(UsageError) as caught:
        from_flags(**flags)
    assert words in f"{caught.value.message} {caught.value.hint}"
