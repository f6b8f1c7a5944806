"""ImageSetConfiguration files: what they mean, and every complaint with file and line."""

import pytest

from common.errors import UsageError
from common.oci.image import Platform
from exporter.imageset import file
from exporter.imageset.model import AdditionalImage, ChannelRequest, OperatorRequest, PackageRequest, from_flags
from tests.spent import spent

HEAD = "apiVersion: mirror.openshift.io/v2alpha1\nkind: ImageSetConfiguration\n"
FULL = (
    HEAD
    + """\
archiveSize: 4
mirror:
  operators:
  - catalog: registry.redhat.io/redhat/redhat-operator-index:v4.18
    targetCatalog: my/index
    targetTag: v1
    skipDependencies: true
    platforms:
    - os: linux
      architecture: amd64
    packages:
    - name: odf-operator
      defaultChannel: stable-4.18
      channels:
      - name: stable-4.18
        minVersion: 4.18.0
        maxVersion: 4.18.5
    - name: other
      minVersion: 1.2.3
  - catalog: quay.io/x/y:v1
    full: true
  additionalImages:
  - name: registry.redhat.io/ubi9/ubi:latest
    targetRepo: base/ubi
    targetTag: new
  blockedImages:
  - name: .*debug.*
"""
)


def read(tmp_path, text):
    (tmp_path / "set.yaml").write_text(text)
    return file.read(tmp_path / "set.yaml")


def test_every_field_is_read(tmp_path):
    image_set = read(tmp_path, FULL)
    first, second = image_set.operators
    assert first == OperatorRequest(
        "registry.redhat.io/redhat/redhat-operator-index:v4.18",
        packages=(
            PackageRequest("odf-operator", "stable-4.18", channels=(ChannelRequest("stable-4.18", "4.18.0", "4.18.5"),)),
            PackageRequest("other", min_version="1.2.3"),
        ),
        target_catalog="my/index",
        target_tag="v1",
        platforms=(Platform("linux", "amd64"),),
        skip_dependencies=True,
    )
    assert (second.catalog, second.full) == ("quay.io/x/y:v1", True)
    assert image_set.additional_images == (AdditionalImage("registry.redhat.io/ubi9/ubi:latest", "base/ubi", "new"),)
    assert image_set.blocked_images == (".*debug.*",)
    assert image_set.archive_size_bytes == 4 * 1024**3
    assert image_set.as_read["mirror"]["operators"][1] == {"catalog": "quay.io/x/y:v1", "full": True}


def test_the_older_version_is_read_too(tmp_path):
    assert read(tmp_path, FULL.replace("v2alpha1", "v1alpha2")).operators == read(tmp_path, FULL).operators


OPERATORS = HEAD + "mirror:\n  operators:\n  - catalog: a.b/c:d\n"
WRONG = {
    "not YAML": (HEAD + "mirror: [\n", "set.yaml:4", "not YAML"),
    "empty": ("", "set.yaml: the file is empty", "ImageSetConfiguration"),
    "empty documents": ("---\n---\n", "set.yaml: the file is empty", "ImageSetConfiguration"),
    # libyaml says "did not find expected <document start>", which looks like a placeholder of documentation.
    "content after the end": (OPERATORS + "...\nfoo: bar\n", "set.yaml:7", "not YAML"),
    "content after the end, and a placeholder": (OPERATORS + "    full: <x>\n...\nfoo: bar\n", "set.yaml:8", "not YAML"),
    "a placeholder over two lines": (
        HEAD + 'mirror:\n  operators:\n  - catalog: "a.b/c:<the\n      tag>"\n',
        "set.yaml:5",
        "<the tag>",
    ),
    "another kind": (HEAD.replace("ImageSetConfiguration", "Pod") + "mirror: {}\n", "set.yaml:2", "Pod"),
    "another version": (HEAD.replace("v2alpha1", "v9") + "mirror: {}\n", "set.yaml:1", "v9"),
    "nothing": (HEAD, "set.yaml", "asks for nothing"),
    "unknown field": (HEAD + "mirrors: {}\n", "set.yaml:3", "mirrors"),
    "unknown field within": (OPERATORS + "    package: []\n", "set.yaml:6", "package"),
    "duplicate key": (OPERATORS + "    full: true\n    full: true\n", "set.yaml:7", "full"),
    "wrong type": (OPERATORS + "    full: maybe\n", "set.yaml:6", "full"),
    "list for a map": (HEAD + "mirror: []\n", "set.yaml:3", "mirror"),
    "no catalog": (HEAD + "mirror:\n  operators:\n  - full: true\n", "set.yaml:5", "catalog"),
    "no package name": (OPERATORS + "    packages:\n    - minVersion: 1.0.0\n", "set.yaml:7", "name"),
    "version is none": (OPERATORS + "    packages:\n    - name: x\n      minVersion: one\n", "set.yaml:", "one"),
    "two ranges": (
        OPERATORS
        + "    packages:\n    - name: x\n      minVersion: 1.0.0\n      channels:\n      - name: w\n        maxVersion: 2.0.0\n",
        "set.yaml:",
        "exclude each other",
    ),
    "full and a range": (
        OPERATORS + "    full: true\n    packages:\n    - name: x\n      minVersion: 1.0.0\n",
        "set.yaml:",
        "full",
    ),
    "package twice": (OPERATORS + "    packages:\n    - name: x\n    - name: x\n", "set.yaml:", "package x is there twice"),
    "catalog twice": (OPERATORS + "  - catalog: a.b/c:d\n", "set.yaml:", "a.b/c:d"),
    "helm section": (HEAD + "mirror:\n  helm:\n    local: []\n", "set.yaml:4", "helm"),
    "bad pattern": (HEAD + "mirror:\n  blockedImages:\n  - name: '['\n", "set.yaml:5", "not a regular expression"),
    "bad image": (HEAD + "mirror:\n  additionalImages:\n  - name: quay.io/A/b\n", "set.yaml:5", "upper-case"),
    "alias of itself": (HEAD + "mirror: &m\n  operators: [*m]\n", "set.yaml:4", "alias"),
}


@pytest.mark.parametrize(("text", "place", "word"), WRONG.values(), ids=WRONG)
def test_every_complaint_names_file_and_line(tmp_path, text, place, word):
    with pytest.raises(UsageError) as caught:
        read(tmp_path, text)
    assert place in caught.value.message
    assert word in f"{caught.value.message} {caught.value.hint}"


SECTIONS = {
    "helm": ("{repositories: [{name: x, url: 'https://x', charts: [{name: w}]}]}", "charts"),
    "samples": ("[{image: x}]", "samples"),
}


@pytest.mark.parametrize("version", ["v2alpha1", "v1alpha2"])
@pytest.mark.parametrize("section", SECTIONS)
def test_a_section_of_another_tool_is_a_problem_where_more_is_asked_for(tmp_path, section, version):
    """Of 152 published files 79 have operators or images together with `platform`."""
    value, why = SECTIONS[section]
    text = OPERATORS.replace("v2alpha1", version) + f"  {section}: {value}\n"
    image_set = read(tmp_path, text)
    assert [one.catalog for one in image_set.operators] == ["a.b/c:d"]
    (problem,) = image_set.problems
    assert (problem.severity, problem.code, problem.subject) == ("error", "section-not-carried", f"mirror.{section}")
    assert problem.message.startswith("set.yaml:6: left out: hub-export carries operators, releases and images; ")
    assert why in problem.message


def test_every_section_is_a_problem_of_its_own(tmp_path):
    text = OPERATORS + "".join(f"  {name}: {value}\n" for name, (value, _) in SECTIONS.items())
    assert [one.subject for one in read(tmp_path, text).problems] == ["mirror.helm", "mirror.samples"]


@pytest.mark.parametrize(
    "section",
    [
        *("platform: {}", "platform:", "platform: {channels: [], graph: false}", "platform: {release: ''}", "samples: []"),
        *("helm: {repositories: []}", "helm: {repositories: [{charts: []}], local: []}"),
        *("platform: {architectures: [amd64]}", "platform: {platforms: [{os: linux, architecture: arm64}]}"),
        *("platform: {kubeVirtContainer: true}", "platform: {architectures: [amd64], channels: [], graph: false}"),
    ],
)
def test_a_section_that_asks_for_nothing_is_no_problem(tmp_path, section):
    assert read(tmp_path, f"{OPERATORS}  {section}\n").problems == ()


def test_a_platform_without_releases_asks_for_nothing(tmp_path):
    with pytest.raises(UsageError, match=r"mirror\.platform: it asks for nothing"):
        read(tmp_path, HEAD + "mirror:\n  platform: {architectures: [amd64]}\n")


MALFORMED = {
    "platform: true": "mirror.platform: wanted fields, got true or false",
    "platform: [a]": "mirror.platform: wanted fields, got a list",
    "platform: []": "mirror.platform: wanted fields, got a list",
    "platform: stable-4.18": "mirror.platform: wanted fields, got text",
    "platform: {channels: stable-4.18}": "mirror.platform.channels: wanted a list, got text",
    "platform: {architectures: amd64}": "mirror.platform.architectures: wanted a list, got text",
    'helm: "x"': "mirror.helm: wanted fields, got text",
    "helm: 0": "mirror.helm: wanted fields, got a number",
    "helm: {repositories: {name: x}}": "mirror.helm.repositories: wanted a list, got fields",
    "samples: {name: x}": "mirror.samples: wanted a list, got fields",
    "samples: false": "mirror.samples: wanted a list, got true or false",
}


@pytest.mark.parametrize("section", MALFORMED)
def test_a_malformed_section_is_a_fault_among_the_others(tmp_path, section):
    with pytest.raises(UsageError) as caught:
        read(tmp_path, f"{OPERATORS}    full: maybe\n  {section}\n")
    assert "set.yaml: 2 faults:" in caught.value.message
    assert f"set.yaml:7: {MALFORMED[section]}" in caught.value.message


def test_an_image_set_of_an_earlier_inventory_is_still_read():
    mirror = {"operators": [{"catalog": "./not-here-any-more", "targetCatalogSourceTemplate": "gone.yaml"}], "platform": True}
    document = {"apiVersion": "mirror.openshift.io/v2alpha1", "kind": "ImageSetConfiguration", "mirror": mirror}
    assert [one.catalog for one in file.of_document(document, "inventory").operators] == ["./not-here-any-more"]


def test_every_catalog_reference_is_checked_with_the_rest_of_the_file(tmp_path):
    (tmp_path / "catalog").mkdir()
    (tmp_path / "pod.yaml").write_text("kind: Pod\n")
    text = f"""\
{HEAD}mirror:
  operators:
  - catalog: https://registry.example/org/index
  - catalog: Bad/Ref//x
  - catalog: registry.example/Org/index:v1
  - catalog: registry.example/org/index:not a tag
  - catalog: registry.example/org/index@sha256:abc
  - catalog: ./no/such/directory
  - catalog: oci:{tmp_path}/no-layout:v1
  - catalog: registry.example/{"x" * 5000}
  - catalog: "registry.example/a\\0b"
  - catalog: registry.example/org/index
    full: maybe
    targetCatalog: Mine
    targetTag: 'a b'
    targetCatalogSourceTemplate: {tmp_path}/no-such-file.yaml
  - catalog: docker://registry.example/org/other
    targetCatalogSourceTemplate: {tmp_path}/pod.yaml
  - catalog: file://{tmp_path}/catalog
  - catalog: {tmp_path}/catalog/../catalog
  - catalog: oci:{tmp_path}/catalog:v1
    targetCatalogSourceTemplate: "a\\0b"
  additionalImages:
  - name: quay.io/A/b
"""
    with pytest.raises(UsageError) as caught:
        read(tmp_path, text)
    _, *lines = caught.value.message.splitlines()
    words = [
        *((5, "catalog: not an image reference"), (6, "no such directory"), (7, "upper-case"), (8, "is no tag")),
        *((9, "sha256"), (10, "no such directory"), (11, "no such file")),
        *((12, "is no repository path"), (13, "no repository path")),
        *((15, "full"), (16, "targetCatalog"), (17, "is no tag"), (18, "cannot be read"), (20, "not a CatalogSource")),
        *((24, "cannot be read"), (26, "upper-case")),
    ]
    assert len(lines) == len(words), lines
    for (number, word), line in zip(words, lines, strict=True):
        assert f"set.yaml:{number}: " in line, (number, line)
        assert word in line, (word, line)


MANY_FAULTS = """\
apiVersion: mirror.openshift.io/v2alpha2
kind: ImageSetConfiguration
archiveSize: big
mirror:
  platform: {graph: true}
  operators:
  - catalog: a.b/c:d
    full: maybe
    full: true
    targetCatalog: 4.2
    packages:
    - name: x
      minversions: 1.0.0
    - name: w
      minVersion: one
    - name: w
    - just text
    - name: z
      channels:
      - name: stable
      - name: stable
  - packages: nothing
  - catalog: a.b/e:f
  - catalog: a.b/e:f
  additionalImages:
  - name: quay.io/A/b
  - name: quay.io/a/b
    targetTag: 'a b'
  - {}
  blockedImages:
  - name: '['
  - name: !!int ''
"""


def test_every_fault_of_a_file_is_named_at_once(tmp_path):
    with pytest.raises(UsageError) as caught:
        read(tmp_path, MANY_FAULTS)
    first, *lines = caught.value.message.splitlines()
    assert first == f"{tmp_path}/set.yaml: {len(lines)} faults:"
    words = [
        *((1, "v2alpha2"), (3, "archiveSize"), (7, "package w is there twice"), (8, "wanted true or false")),
        *((9, "duplicate key 'full'"), (10, "wanted text"), (13, "minversion"), (14, "one"), (17, "got text")),
        *((18, "channel stable is there twice"), (22, "catalog is missing"), (22, "wanted a list"), (24, "is there twice")),
        *((26, "upper-case"), (28, "'a b' is no tag"), (29, "name is missing"), (31, "regular expression"), (32, "!!int")),
    ]
    for line, word in words:
        assert any(f"set.yaml:{line}: " in one and word in one for one in lines), (line, word, lines)
    numbers = [int(one.split("set.yaml:")[1].partition(":")[0]) for one in lines]
    assert numbers == sorted(numbers)


@pytest.mark.parametrize(
    "text",
    [
        HEAD + "mirror:\n  operators:\n" + "  - {}\n" * 9_000,
        HEAD + "mirror:\n  operators:\n  - &a {catalog: a.b/c:d}\n" + "  - <<: *a\n" * 9_000,
        HEAD + "mirror:\n  operators:\n" + "  - !!int x\n" * 9_000,
    ],
    ids=["empty", "aliases", "tags"],
)
def test_faults_without_number_are_bounded(tmp_path, text):
    with pytest.raises(UsageError) as caught:
        read(tmp_path, text)
    lines = caught.value.message.splitlines()
    assert len(lines) == 102
    assert lines[-1].startswith("  and ")


def test_packages_that_two_catalogs_share_are_written_once(tmp_path):
    """Anchors, aliases and merge keys, which oc-mirror takes (sigs.k8s.io/yaml); a fault in them is reported once, at its line."""
    text = (
        OPERATORS
        + """\
    packages: &shared
    - &foo {name: foo, channels: [{name: stable}]}
    - name: bar
  - catalog: a.b/c:e
    packages: *shared
  - catalog: a.b/c:f
    packages:
    - <<: *foo
      name: baz
"""
    )
    first, second, third = read(tmp_path, text).operators
    assert (
        first.packages
        == second.packages
        == (PackageRequest("foo", channels=(ChannelRequest("stable"),)), PackageRequest("bar"))
    )
    assert third.packages == (PackageRequest("baz", channels=(ChannelRequest("stable"),)),)
    assert read(tmp_path, text).as_read["mirror"]["operators"][1]["packages"][1] == {"name": "bar"}
    with pytest.raises(UsageError) as caught:
        read(tmp_path, text.replace("name: bar", "nam: bar"))
    assert "set.yaml:8: a package: unknown field 'nam'" in caught.value.message
    assert "set.yaml:10" not in caught.value.message


@pytest.mark.parametrize(
    ("flag", "request_"),
    [
        ("x", PackageRequest("x")),
        ("x:a", PackageRequest("x", channels=(ChannelRequest("a"),))),
        ("x:a,b", PackageRequest("x", channels=(ChannelRequest("a"), ChannelRequest("b")))),
        ("x@1.0.0..2.0.0", PackageRequest("x", min_version="1.0.0", max_version="2.0.0")),
        ("x@1.0.0..", PackageRequest("x", min_version="1.0.0")),
        ("x@..2.0.0", PackageRequest("x", max_version="2.0.0")),
        ("x@1.0.0", PackageRequest("x", min_version="1.0.0", max_version="1.0.0")),
        ("x:a@1.0.0..", PackageRequest("x", min_version="1.0.0", channels=(ChannelRequest("a"),))),
    ],
)
def test_flags_say_the_same(flag, request_):
    assert from_flags(catalogs=["a.b/c"], packages=[flag]).operators[0].packages == (request_,)


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        ({}, "nothing is asked for"),
        ({"catalogs": ["a.b/c"]}, "--heads"),
        ({"packages": ["x"]}, "nothing is asked for"),
        ({"catalogs": ["a.b/c"], "packages": ["x@.."]}, "cannot be read"),
        ({"catalogs": ["a.b/c", "a.b/d"], "packages": ["x"]}, "needs one --catalog"),
        ({"catalogs": ["a.b/c"], "full": True, "heads": True}, "exclude each other"),
        ({"catalogs": ["a.b/c", "a.b/c"], "full": True}, "twice"),
        ({"catalogs": ["a.b/c"], "packages": ["x:"]}, "cannot be read"),
        ({"catalogs": ["a.b/c"], "packages": ["x@"]}, "cannot be read"),
        ({"catalogs": ["a.b/c"], "packages": ["x@a..b"]}, "--package"),
        ({"catalogs": ["a.b/c"], "packages": ["x", "x"]}, "twice"),
        ({"catalogs": ["a.b/c"], "packages": ["x@1.0.0"], "full": True}, "full"),
        ({"images": ["quay.io/A"]}, "upper-case"),
    ],
)
def test_flags_that_make_no_sense(flags, word):
    with pytest.raises(UsageError) as caught:
        from_flags(**flags)
    assert word in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize(
    "document",
    [{"kind": "\ud800"}, {"mirror": {"additionalImages": [{"name": 10**5000}]}}, {"archiveSize": 1e999}, {"a": {"b": [None]}}],
)
def test_an_image_set_of_an_inventory_that_says_nonsense_is_one_error(document):
    """It comes from elsewhere, unlike a file of the caller: surrogates and integers beyond Python's limit (CVE-2020-10735)."""
    with pytest.raises(UsageError, match=r"^inventory:"):
        file.of_document(document, "inventory")


def test_an_image_set_of_the_largest_lists_is_read_and_one_of_too_many_values_is_refused():
    line = "  - name: quay.io/a/b:1\n"
    assert len(file.parse(f"{HEAD}mirror:\n  additionalImages:\n{line * 1000}".encode(), "f").additional_images) == 1000
    dense = f"{HEAD}mirror:\n  additionalImages: [{'a,' * 1_000_000}]\n".encode()
    took = spent(lambda: file.parse(dense, "f"))
    assert took.error.startswith("DocumentError: f:4: more than 450012 values")
    assert took.memory < 64 << 20


TEMPLATES = {
    "a list as spec": ("spec: []", "`$.spec`"),
    "a number as text": ("spec: {displayName: 4}", "`$.spec.displayName`"),
    "text as a number": ("spec: {priority: high}", "`$.spec.priority`"),
    "secrets of another form": ("spec: {secrets: [{name: pull}]}", "`$.spec.secrets[0]`"),
    "two documents": ("spec: {}\n---\nkind: Secret", "2 documents"),
}


@pytest.mark.parametrize(("text", "why"), TEMPLATES.values(), ids=TEMPLATES)
def test_a_template_that_the_other_side_would_refuse_is_refused_here(tmp_path, text, why):
    (tmp_path / "source.yaml").write_text(f"kind: CatalogSource\n{text}\n")
    with pytest.raises(UsageError, match="targetCatalogSourceTemplate") as caught:
        read(tmp_path, OPERATORS + f"    targetCatalogSourceTemplate: {tmp_path}/source.yaml\n")
    assert why in caught.value.message
