"""SBOMs as their publishers write them, and as they break them: packages, licences, images, or a reason."""

from __future__ import annotations

import base64
import json

import pytest

from common.errors import ContentError
from common.oci.image import digest_of
from common.sbom.document import MAX_PARTS, identifiers, read
from common.sbom.envelope import unwrapped
from common.sbom.software import Selection
from tests.fakes import sboms
from tests.fakes.sboms import component, dumped, licensed, package

IMAGE, OTHER = digest_of(b"image"), digest_of(b"other")


def packages(document):
    return {each.name: each for each in read(dumped(document)).packages}


@pytest.mark.parametrize(
    ("licence", "found"),
    [
        ("MIT", ("MIT",)),
        ("MIT AND (Apache-2.0 OR GPL-2.0-or-later)", ("Apache-2.0", "GPL-2.0-or-later", "MIT")),
        ("GPL-2.0-only WITH Classpath-exception-2.0", ("GPL-2.0-only WITH Classpath-exception-2.0",)),
        ("GPL-2.0+ AND GPL-2.0+", ("GPL-2.0+",)),
        ("LicenseRef-Public-Domain OR DocumentRef-x:LicenseRef-y", ("DocumentRef-x:LicenseRef-y", "LicenseRef-Public-Domain")),
        ("Apache License, Version 2.0", ("Apache License, Version 2.0",)),
        ("GPLv2+ and BSD", ("GPLv2+ and BSD",)),  # as RPM had it: no expression of SPDX
        ("MIT AND", ("MIT AND",)),
        ("((((", ("((((",)),
        (" AND ".join(["MIT"] * 500), ("MIT",)),
        (" OR ".join(f"L{n}" for n in range(MAX_PARTS + 1)), (" OR ".join(f"L{n}" for n in range(MAX_PARTS + 1)),)),
        ("(Acme, v1) AND MIT", ("Acme, v1", "MIT")),
        ("(Acme, v1) AND (MIT OR Zlib)", ("Acme, v1", "MIT", "Zlib")),
        ("COMMON DEVELOPMENT AND DISTRIBUTION LICENSE (CDDL)", ("COMMON DEVELOPMENT AND DISTRIBUTION LICENSE (CDDL)",)),
        ("(Acme, v1)", ("(Acme, v1)",)),
        ("(a b)) AND ((c d)", ("(a b)) AND ((c d)",)),
        ("NOASSERTION", ("NOASSERTION",)),
    ],
)
def test_the_licences_of_an_expression(licence, found):
    assert identifiers(licence) == found


# The expression of libgcc and libstdc++ in UBI 10 (gcc.spec of CentOS Stream 10, License): 744 characters, 34 licences.
GCC = (
    "GPL-3.0-or-later AND LGPL-3.0-or-later AND (GPL-3.0-or-later WITH GCC-exception-3.1) AND (GPL-3.0-or-later WITH "
    "Texinfo-exception) AND (LGPL-2.1-or-later WITH GCC-exception-2.0) AND (GPL-2.0-or-later WITH GCC-exception-2.0) AND "
    "(GPL-2.0-or-later WITH GNU-compiler-exception) AND BSL-1.0 AND GFDL-1.3-or-later AND Linux-man-pages-copyleft-2-para AND "
    "SunPro AND BSD-1-Clause AND BSD-2-Clause AND BSD-2-Clause-Views AND BSD-3-Clause AND BSD-4-Clause AND BSD-Source-Code AND "
    "Zlib AND MIT AND Apache-2.0 AND (Apache-2.0 WITH LLVM-Exception) AND ZPL-2.1 AND ISC AND LicenseRef-Fedora-Public-Domain "
    "AND HP-1986 AND curl AND Martin-Birgmeier AND HPND-Markus-Kuhn AND dtoa AND SMLNJ AND AMD-newlib AND OAR AND "
    "HPND-merchantability-variant AND HPND-Intel"
)


def test_the_licences_of_the_library_of_a_compiler():
    found = packages(sboms.spdx([sboms.rpm("libgcc", "14.3.1-4.4.el10", GCC)]))["libgcc"]
    assert found.licence == GCC
    assert len(identifiers(found.licence)) == 34
    assert Selection(licence="BSD-4-*").has_package(found)
    assert not Selection(licence="AGPL-*").has_package(found)


@pytest.mark.parametrize(
    ("concluded", "declared", "licence"),
    [
        ("MIT", "BSD-3-Clause", "MIT"),
        ("NOASSERTION", "BSD-3-Clause", "BSD-3-Clause"),
        ("NONE", "BSD-3-Clause", "BSD-3-Clause"),
        ("NOASSERTION", "NONE", "NONE"),
        (None, None, "NOASSERTION"),
        ("", "  ", "NOASSERTION"),
        ("MIT\u202e\nX", "", "MIT X"),
    ],
)
def test_the_licence_of_an_spdx_package(concluded, declared, licence):
    document = sboms.spdx([package("a", "1") | {"licenseConcluded": concluded, "licenseDeclared": declared}])
    assert packages(document)["a"].licence == licence


@pytest.mark.parametrize(
    ("licences", "licence"),
    [
        ([licensed("MIT")], "MIT"),
        ([licensed("MIT"), licensed("Zlib"), licensed("MIT")], "MIT AND Zlib"),
        ([{"expression": "MIT OR Zlib"}], "MIT OR Zlib"),
        ([{"license": {"name": "Acme, v1"}}], "Acme, v1"),
        ([{"license": {"name": "Acme, v1"}}, licensed("AGPL-3.0-only")], "(Acme, v1) AND AGPL-3.0-only"),
        ([{"license": {"name": "Acme (v1"}}, {"expression": "MIT OR Zlib"}], "(Acme v1) AND (MIT OR Zlib)"),
        ([{"license": {"name": "GPL-2.0-only WITH x"}}, licensed("MIT")], "GPL-2.0-only WITH x AND MIT"),
        ([{"license": {}}, {}], "NOASSERTION"),
        ([], "NOASSERTION"),
        (None, "NOASSERTION"),
    ],
)
def test_the_licence_of_a_cyclonedx_component(licences, licence):
    assert packages(sboms.cyclonedx([component("a", "1") | {"licenses": licences}]))["a"].licence == licence


@pytest.mark.parametrize("name", ["Apache License 2.0", "COMMON DEVELOPMENT AND DISTRIBUTION LICENSE (CDDL)", "a (b", ")("])
def test_a_licence_is_found_next_to_one_that_has_a_name_alone(name):
    """`--licence AGPL-*` passed over a component that has `Apache License 2.0` too."""
    licences = [{"license": {"name": name}}, licensed("AGPL-3.0-only")]
    found = packages(sboms.cyclonedx([component("a", "1") | {"licenses": licences}]))["a"]
    assert Selection(licence="AGPL-*").has_package(found)
    assert len(identifiers(found.licence)) == 2


def test_a_package_without_the_right_types_costs_itself_alone():
    broken = [{"name": 7}, {"name": "b", "externalRefs": {}}, 1, None, [], "x", {"name": "c", "licenseDeclared": ["MIT"]}]
    found = read(dumped(sboms.spdx([package("a", "1"), *broken])))
    assert ([each.name for each in found.packages], found.unreadable) == (["a"], len(broken))
    found = read(dumped(sboms.cyclonedx([component("a", "1"), *broken, {"name": "d", "licenses": "MIT"}])))
    assert [each.name for each in found.packages] == ["a", "b", "c"]  # their other fields are not of CycloneDX
    assert found.unreadable == len(broken) - 1


def test_the_image_itself_and_the_images_of_its_build_are_no_packages():
    found = read(dumped(sboms.konflux("app", IMAGE, [package("a", "1")])))
    assert ([each.name for each in found.packages], IMAGE in found.named) == (["a"], True)
    nested = component("base", "1", kind="container", components=[component("inner", "1", licensed("MIT"))])
    found = read(dumped(sboms.cyclonedx([nested, component("key", "", kind="cryptographic-asset")], about=IMAGE)))
    assert ([each.name for each in found.packages], found.named) == (["inner"], {IMAGE})


def test_the_type_of_a_reference_as_an_address():
    """SPDX, as JSON and tag-value, by tools on its Java library: `--package` finds a part of the package URL, too."""
    purl, kind = "pkg:maven/org.example/a@1", "http://spdx.org/rdf/references/purl"
    made = package("a", "1") | {"externalRefs": [{"referenceType": kind, "referenceLocator": purl}]}
    text = f"SPDXVersion: SPDX-2.3\nPackageName: a\nExternalRef: PACKAGE-MANAGER {kind} {purl}\n"
    for raw in (dumped(sboms.spdx([made])), text.encode()):
        (found,) = read(raw).packages
        assert (found.purl, found.kind) == (purl, "maven")


@pytest.mark.parametrize(
    "tools", [[{"vendor": "x", "name": "syft", "version": "1"}], {"components": [{"name": "syft", "version": "1"}]}]
)
def test_the_tool_in_both_forms_of_cyclonedx(tools):
    assert read(dumped(sboms.cyclonedx([], tools=tools, version="1.4"))).tool == "syft-1"


@pytest.mark.parametrize("text", ["UTF-8", "UTF-8-SIG", "UTF-16"])
def test_encodings_with_a_mark(text):
    raw = json.dumps(sboms.spdx([package("grün", "1")]), ensure_ascii=False).encode(text)
    opened = unwrapped(raw)
    assert opened is not None
    assert [each.name for each in read(opened.document).packages] == ["grün"]


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"<?xml version='1.0'?><bom/>", "XML"),
        (b"", "neither JSON nor SPDX"),
        (b"\x1f\x8b", "neither JSON nor SPDX"),
        (b"null", "neither JSON nor SPDX"),
        (b"{}", "neither SPDX nor CycloneDX"),
        (b'{"artifacts":[],"schema":{}}', "format of syft"),
        (b'{"@context":"https://spdx.org/rdf/3.0.1/spdx-context.jsonld","@graph":[]}', "another version than 2"),
        (b'{"spdxVersion":"SPDX-3.0"}', "another version than 2"),
        (b"SPDXVersion: SPDX-1.2\nPackageName: a\n", "another version than 2"),
        (b'{"spdxVersion":2}', "not JSON as an SBOM"),
        (b'{"spdxVersion":"SPDX-2.3","packages":{}}', "not JSON as an SBOM"),
        (b'{"spdxVersion":"SPDX-2.3","packages":[', "not JSON as an SBOM"),
        (b'{"bomFormat":"CycloneDX","components":7}', "not JSON as an SBOM"),
    ],
)
def test_what_is_not_read_has_a_reason(raw, why):
    with pytest.raises(ContentError, match=why):
        opened = unwrapped(raw)
        assert opened is not None
        read(opened.document)


def test_of_two_equal_keys_the_last_counts():
    """As encoding/json of Go reads them, in which the tools of the field are written."""
    found = read(b'{"spdxVersion":"SPDX-2.3","packages":[{"name":"a"}],"packages":[{"name":"b","name":"c"}]}')
    assert [each.name for each in found.packages] == ["c"]


def test_a_name_that_is_not_utf_8_costs_its_package():
    found = read(b'{"spdxVersion":"SPDX-2.3","packages":[{"name":"\xff"},{"name":"b"}]}')
    assert ([each.name for each in found.packages], found.unreadable) == (["b"], 1)


def test_null_is_as_absent():
    assert read(b'{"spdxVersion":"SPDX-2.3","packages":null,"creationInfo":null,"name":null}').packages == []
    assert read(b'{"bomFormat":"CycloneDX","specVersion":null,"metadata":null,"components":null}').format == "CycloneDX-?"


STATEMENT = sboms.statement(sboms.SPDX_PREDICATE + "/v2.3", sboms.spdx([package("a", "1")]), IMAGE)
URL_SAFE = sboms.envelope(STATEMENT | {"x": "\u00ff\u00fe?>"}) | {}
URL_SAFE["payload"] = base64.urlsafe_b64encode(dumped(STATEMENT | {"x": "~~~???"})).decode()


@pytest.mark.parametrize(
    "content",
    [
        STATEMENT,
        sboms.envelope(STATEMENT),
        URL_SAFE,
        sboms.bundle(STATEMENT),
        sboms.envelope(STATEMENT | {"predicate": {"Data": STATEMENT["predicate"], "Timestamp": "2022"}}),
        sboms.envelope(STATEMENT | {"predicate": {"Data": json.dumps(STATEMENT["predicate"])}}),
        sboms.envelope(STATEMENT | {"predicate": json.dumps(STATEMENT["predicate"])}),
        sboms.envelope(STATEMENT | {"predicate": sboms.tag_value("a", "1", "MIT")}),
    ],
)
def test_envelopes_are_opened(content):
    opened = unwrapped(dumped(content))
    assert opened is not None
    assert opened.subjects == {IMAGE}
    assert [each.name for each in read(opened.document).packages] == ["a"]


@pytest.mark.parametrize(
    "content",
    [
        sboms.statement(sboms.PROVENANCE, {"builder": {}}, IMAGE),
        sboms.envelope(sboms.statement("https://cosign.sigstore.dev/attestation/vuln/v1", {}, IMAGE)),
        sboms.envelope(STATEMENT) | {"payloadType": "application/vnd.other+json"},
        {"mediaType": sboms.BUNDLE, "messageSignature": {}, "dsseEnvelope": None} | {"predicateType": sboms.PROVENANCE},
    ],
)
def test_statements_of_other_kinds_are_passed_over(content):
    assert unwrapped(dumped(content)) is None


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (sboms.envelope({"spdxVersion": "SPDX-2.3"}), "no in-toto statement"),
        (sboms.envelope(STATEMENT) | {"payload": "%%%"}, "not JSON"),
        (sboms.envelope(STATEMENT) | {"payload": 7}, "not JSON"),
        ({key: value for key, value in STATEMENT.items() if key != "predicate"}, "no predicate"),
        (STATEMENT | {"subject": {"digest": {}}}, "not JSON"),
    ],
)
def test_broken_envelopes_have_a_reason(content, why):
    with pytest.raises(ContentError, match=why):
        unwrapped(dumped(content))


def test_subjects_of_other_algorithms_name_no_image():
    content = STATEMENT | {
        "subject": [{"name": "x", "digest": {"sha512": "0" * 128}}, {"digest": {"sha256": "zz"}}, {"digest": None}]
    }
    opened = unwrapped(dumped(content))
    assert opened is not None
    assert opened.subjects == frozenset()
