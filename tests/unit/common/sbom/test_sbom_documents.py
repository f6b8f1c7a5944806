"""SBOMs as their publishers write them, and as they break them: packages, licences, images, or a reason."""

from __future__ import annotations

import base64
import json

import pytest

from common.errors import ContentError
from common.oci.image import digest_of
from common.sbom.document import identifiers, read
from common.sbom.envelope import unwrapped
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
        (" AND ".join(f"L{n}" for n in range(40)), (" AND ".join(f"L{n}" for n in range(40)),)),
        ("NOASSERTION", ("NOASSERTION",)),
    ],
)
def test_the_licences_of_an_expression(licence, found):
    assert identifiers(licence) == found


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
        ([{"license": {}}, {}], "NOASSERTION"),
        ([], "NOASSERTION"),
        (None, "NOASSERTION"),
    ],
)
def test_the_licence_of_a_cyclonedx_component(licences, licence):
    assert packages(sboms.cyclonedx([component("a", "1") | {"licenses": licences}]))["a"].licence == licence


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
