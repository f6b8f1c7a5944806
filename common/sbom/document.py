"""Reader of SBOM documents: SPDX 2.x as JSON and as tag-value, and CycloneDX as JSON.

Sources: SPDX specification 2.3; CycloneDX 1.6 JSON reference; the output of syft, Trivy, BuildKit and Konflux. Only what a
table of packages needs is decoded, package by package, so that a large document takes little more memory than its bytes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote

import msgspec

from common.decoding import UNDECODABLE
from common.errors import ContentError
from common.oci.image import Digest
from common.sbom.envelope import ABSENT, is_given
from common.text import sanitize

if TYPE_CHECKING:
    from collections.abc import Iterator

# Limits, see docs/reference/limits.md.
MAX_SIZE = 64 * 1024 * 1024  # bytes of one document, decompressed and without its envelope
MAX_TAG_VALUE = 16 * 1024 * 1024  # bytes of one document in SPDX tag-value, which is read line by line
MAX_PACKAGES = 100_000  # of one document
MAX_OBJECTS = 1_000_000  # JSON objects within the packages of one document: each reference of a package is one
MAX_VALUES = 2_500_000  # commas there
MAX_DEPTH = 8  # CycloneDX components within components
MAX_NAME, MAX_VERSION, MAX_LICENCE, MAX_PURL, MAX_TOOL = 200, 100, 8192, 500, 100  # characters that are kept
_SNIFFED = 64 * 1024
_DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})")
MAX_HEAD = 1024 * 1024  # bytes of what a document says about itself; real ones have some kilobytes
_IMAGE_PURLS = ("pkg:oci/", "pkg:docker/")
# CycloneDX component types that are no software of their own: syft lists files, others keys and models.
_NO_PACKAGES = frozenset({"file", "data", "cryptographic-asset", "device", "machine-learning-model"})


class Package(NamedTuple):
    """A package as an SBOM states it. `kind`: the type of its package URL, such as `rpm` or `golang`."""

    name: str
    version: str
    kind: str
    licence: str
    purl: str


@dataclass(slots=True)
class Document:
    """The content of an SBOM. `named`: digests of images that it is about; `unreadable`: packages that were left out."""

    format: str
    tool: str = ""
    packages: list[Package] = field(default_factory=list)
    named: set[Digest] = field(default_factory=set)
    unreadable: int = 0

    def add(self, package: Package) -> None:
        """Add a package. Raises ContentError for too many."""
        if len(self.packages) + self.unreadable >= MAX_PACKAGES:
            raise ContentError(f"more than {MAX_PACKAGES} packages")
        self.packages.append(package)

    def add_image(self, *texts: str | None) -> None:
        """Add the digests in texts about an image: its version, checksum or package URL."""
        for text in texts:
            if text:
                self.named.update(Digest(f"sha256:{each}") for each in _DIGEST.findall(unquote(text[:MAX_PURL])))


class _Top(msgspec.Struct):
    """The fields by which the formats are recognized."""

    spdx_version: str | None = msgspec.field(default=None, name="spdxVersion")
    bom_format: str | None = msgspec.field(default=None, name="bomFormat")
    context: msgspec.Raw = msgspec.field(default=ABSENT, name="@context")
    artifacts: msgspec.Raw = ABSENT


_TOP = msgspec.json.Decoder(_Top)


def read(raw: bytes) -> Document:
    """Read an SBOM. Raises ContentError for another format, a broken document, and values beyond the limits."""
    if len(raw) > MAX_SIZE:
        raise ContentError(f"{len(raw)} bytes; the limit is {MAX_SIZE}")
    # The content decides: media types of attachments are often those of the tool (`oras attach` calls each file a tar).
    start = raw[:_SNIFFED].lstrip()
    if start[:1] == b"<":
        raise ContentError("an SBOM as XML is not read, only as JSON")
    if start[:1] != b"{":
        if b"SPDXVersion:" in start:
            return _tag_value(raw)
        raise ContentError("neither JSON nor SPDX tag-value")
    try:
        top = _TOP.decode(raw)
        if top.bom_format == "CycloneDX":
            return _cyclonedx(raw)
        if top.spdx_version is not None and top.spdx_version.startswith("SPDX-2."):
            return _spdx(raw)
    except UNDECODABLE as error:
        raise ContentError(f"not JSON as an SBOM has it: {error}") from error
    if is_given(top.context) or top.spdx_version is not None:
        raise ContentError("SPDX of another version than 2 is not read")
    raise ContentError("the format of syft is not read" if is_given(top.artifacts) else "neither SPDX nor CycloneDX")


def _package(name: str | None, version: str | None, licence: str, purl: str | None, kind: str = "") -> Package:
    # The package URL has the type that scanners use; the type of a CycloneDX component is `library` for most.
    url = sanitize(purl, MAX_PURL)
    found = url[4:].partition("/")[0].lower() if url.startswith("pkg:") else kind
    return Package(sanitize(name, MAX_NAME), sanitize(version, MAX_VERSION), sanitize(found, 32), licence, url)


def _licence(*texts: str | None) -> str:
    """Return the first licence that says something; NONE before NOASSERTION where none does."""
    cleaned = [sanitize(text, MAX_LICENCE) for text in texts]
    stated = next((text for text in cleaned if text and text not in {_NOASSERTION, _NONE}), "")
    return stated or (_NONE if _NONE in cleaned else _NOASSERTION)


def _listed(raw: msgspec.Raw) -> list[msgspec.Raw]:
    """Return the items of a list, not decoded. Raises ContentError for more objects than real ones have."""
    if not is_given(raw):
        return []
    text = bytes(raw)
    # Before it is decoded: `{}` takes two bytes in the document, and a hundred and more in memory.
    if text.count(b"{") > MAX_OBJECTS:
        raise ContentError(f"its packages have more than {MAX_OBJECTS} JSON objects")
    if text.count(b",") > MAX_VALUES:
        raise ContentError(f"its packages have more than {MAX_VALUES} values")
    items = _ITEMS.decode(text)
    if len(items) > MAX_PACKAGES:
        raise ContentError(f"more than {MAX_PACKAGES} packages")
    return items


_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])


def _head(raw: msgspec.Raw) -> bytes:
    """Return the JSON of what a document says about itself, null where it says nothing. Raises ContentError."""
    text = bytes(raw) or b"null"
    if len(text) > MAX_HEAD:
        raise ContentError(f"what it says about itself has {len(text)} bytes; the limit is {MAX_HEAD}")
    return text


# SPDX 2.x as JSON.


class _Checksum(msgspec.Struct):
    value: str | None = msgspec.field(default=None, name="checksumValue")
    algorithm: str | None = None


# Tools on the Java library of SPDX write the address of the type (google/osv-scalibr, extractor/filesystem/sbom/spdx).
_PURL_TYPES = frozenset({"purl", "http://spdx.org/rdf/references/purl"})


class _Reference(msgspec.Struct):
    kind: str | None = msgspec.field(default=None, name="referenceType")
    locator: str | None = msgspec.field(default=None, name="referenceLocator")


class _SpdxPackage(msgspec.Struct, rename="camel"):
    name: str | None = None
    version_info: str | None = None
    license_concluded: str | None = None
    license_declared: str | None = None
    primary_package_purpose: str | None = None
    external_refs: list[_Reference] | None = None
    checksums: list[_Checksum] | None = None

    @property
    def purl(self) -> str | None:
        found = (each.locator for each in self.external_refs or () if each.kind in _PURL_TYPES and each.locator)
        return next(found, None)


class _CreationInfo(msgspec.Struct):
    creators: list[str] | None = None


_CREATION_INFO = msgspec.json.Decoder(_CreationInfo | None)


class _Spdx(msgspec.Struct, rename="camel"):
    spdx_version: str
    name: str | None = None
    creation_info: msgspec.Raw = ABSENT
    packages: msgspec.Raw = ABSENT


_SPDX = msgspec.json.Decoder(_Spdx)
_SPDX_PACKAGE = msgspec.json.Decoder(_SpdxPackage)


def _spdx(raw: bytes) -> Document:
    found = _SPDX.decode(raw)
    made = _CREATION_INFO.decode(_head(found.creation_info))
    creators = (made and made.creators) or []
    document = Document(sanitize(found.spdx_version, 16), _spdx_tool(creators))
    # Often the reference of the image, with its digest where that was known.
    document.add_image(found.name)
    for item in _listed(found.packages):
        # One by one: a package that cannot be decoded is left out and counted, and the others are read.
        try:
            package = _SPDX_PACKAGE.decode(item)
        except UNDECODABLE:
            document.unreadable += 1
            continue
        purl = package.purl
        # The image itself, and in Konflux's documents the images that it was built with: no packages of it.
        if package.primary_package_purpose == "CONTAINER" or (purl or "").startswith(_IMAGE_PURLS):
            sums = [f"sha256:{each.value}" for each in package.checksums or () if each.algorithm == "SHA256"]
            document.add_image(package.name, package.version_info, purl, *sums)
            continue
        licence = _licence(package.license_concluded, package.license_declared)
        document.add(_package(package.name, package.version_info, licence, purl))
    return document


def _spdx_tool(creators: list[str]) -> str:
    tools = (each.removeprefix("Tool:") for each in creators[:100] if each.startswith("Tool:"))
    return sanitize(", ".join(tool.strip()[:MAX_TOOL] for tool in tools), MAX_TOOL)


# SPDX 2.x as tag-value (SPDX 2.3, 4.4, *Tag:value*): one field on each line, and texts of several lines in <text>.

_FIELD = re.compile(
    rb"^(SPDXVersion|Creator|PackageName|PackageVersion|PackageLicenseConcluded|PackageLicenseDeclared|PackageChecksum"
    rb"|PrimaryPackagePurpose|ExternalRef|FileName):[ \t]*([^\r\n]*)",
    re.MULTILINE,
)
_PURL_REFERENCE = re.compile(r"PACKAGE[-_]MANAGER\s+(?:http://spdx\.org/rdf/references/)?purl\s+(\S+)")


def _tag_value(raw: bytes) -> Document:
    if len(raw) > MAX_TAG_VALUE:
        raise ContentError(f"SPDX tag-value of {len(raw)} bytes; the limit is {MAX_TAG_VALUE}")
    document = Document("")
    fields: dict[str, str] = {}
    for match in _FIELD.finditer(_without_texts(raw)):
        name, value = match[1].decode(), match[2].decode(errors="replace").strip()
        if name == "SPDXVersion":
            document.format = sanitize(value, 16)
        elif name == "Creator":
            document.tool = document.tool or _spdx_tool([value])
        elif name in {"PackageName", "FileName"}:  # a file that belongs to no package has fields of its own
            _end_package(document, fields)
            fields = {name: value} if name == "PackageName" else {}
        elif name == "ExternalRef":
            if (found := _PURL_REFERENCE.match(value)) is not None:
                fields.setdefault(name, found[1])
        else:
            fields.setdefault(name, value)
    _end_package(document, fields)
    # Checked at the end: the version need not be the first field of a file.
    if not document.format.startswith("SPDX-2."):
        raise ContentError("SPDX of another version than 2 is not read")
    return document


def _end_package(document: Document, fields: dict[str, str]) -> None:
    if "PackageName" not in fields:
        return
    purl = fields.get("ExternalRef", "")
    if fields.get("PrimaryPackagePurpose") == "CONTAINER" or purl.startswith(_IMAGE_PURLS):
        sums = fields.get("PackageChecksum", "").replace("SHA256: ", "sha256:")
        document.add_image(fields["PackageName"], fields.get("PackageVersion"), purl, sums)
        return
    licence = _licence(fields.get("PackageLicenseConcluded"), fields.get("PackageLicenseDeclared"))
    document.add(_package(fields["PackageName"], fields.get("PackageVersion"), licence, purl))


def _without_texts(raw: bytes) -> bytes:
    """Return tag-value without its texts: a line of a licence's text may look like a field."""
    parts, place = [], 0
    while (start := raw.find(b"<text>", place)) >= 0:
        parts.append(raw[place:start])
        end = raw.find(b"</text>", start)
        if end < 0:
            raise ContentError("a <text> of it does not end")
        place = end + len(b"</text>")
    return b"".join((*parts, raw[place:]))


# CycloneDX as JSON.


class _License(msgspec.Struct):
    id: str | None = None
    name: str | None = None


class _Choice(msgspec.Struct):
    license: _License | None = None
    expression: str | None = None

    @property
    def text(self) -> str:
        return self.expression or (self.license and (self.license.id or self.license.name)) or ""


class _Hash(msgspec.Struct):
    algorithm: str | None = msgspec.field(default=None, name="alg")
    content: str | None = None


class _Component(msgspec.Struct):
    type: str | None = None
    group: str | None = None
    name: str | None = None
    version: str | None = None
    purl: str | None = None
    licenses: list[_Choice] | None = None
    hashes: list[_Hash] | None = None
    components: msgspec.Raw = ABSENT

    @property
    def full_name(self) -> str | None:
        return f"{self.group}/{self.name}" if self.group else self.name

    @property
    def licence(self) -> str:
        # Several licences of a component apply together (CycloneDX 1.6, `component.licenses`).
        texts = list(dict.fromkeys(sanitize(choice.text, MAX_LICENCE) for choice in self.licenses or () if choice.text))
        return _licence(" AND ".join(map(_enclosed, texts[:MAX_LICENCE])) if len(texts) > 1 else "".join(texts))


class _Metadata(msgspec.Struct):
    component: _Component | None = None
    tools: msgspec.Raw = ABSENT


class _CycloneDx(msgspec.Struct):
    spec_version: str | None = msgspec.field(default=None, name="specVersion")
    metadata: msgspec.Raw = ABSENT
    components: msgspec.Raw = ABSENT


class _Tool(msgspec.Struct):
    name: str | None = None
    version: str | None = None


class _Tools(msgspec.Struct):
    components: list[_Tool] | None = None


_CYCLONEDX = msgspec.json.Decoder(_CycloneDx)
_METADATA = msgspec.json.Decoder(_Metadata | None)
_COMPONENT = msgspec.json.Decoder(_Component)
_TOOLS = msgspec.json.Decoder(list[_Tool] | _Tools)


def _cyclonedx(raw: bytes) -> Document:
    found = _CYCLONEDX.decode(raw)
    document = Document(sanitize(f"CycloneDX-{found.spec_version or '?'}", 24))
    if (metadata := _METADATA.decode(_head(found.metadata))) is not None:
        document.tool = _cyclonedx_tool(metadata.tools)
        if metadata.component is not None:
            _add_image(document, metadata.component)
    for component in _components(found.components, document, MAX_DEPTH):
        purl = component.purl or ""
        if component.type == "container" or purl.startswith(_IMAGE_PURLS):
            continue  # an image within the image: its packages are listed apart
        if component.type not in _NO_PACKAGES:
            document.add(_package(component.full_name, component.version, component.licence, purl, component.type or ""))
    return document


def _components(raw: msgspec.Raw, document: Document, depth: int) -> Iterator[_Component]:
    """Give components, and those within them."""
    for item in _listed(raw):
        try:
            component = _COMPONENT.decode(item)
        except UNDECODABLE:
            document.unreadable += 1
            continue
        yield component
        # cyclonedx-npm nests what a package bundles. Without a bound the generators would exhaust the stack.
        if is_given(component.components):
            if not depth:
                raise ContentError(f"its components nest deeper than {MAX_DEPTH}")
            yield from _components(component.components, document, depth - 1)


def _add_image(document: Document, root: _Component) -> None:
    sums = [f"sha256:{each.content}" for each in root.hashes or () if each.algorithm == "SHA-256"]
    document.add_image(root.name, root.version, root.purl, *sums)


def _cyclonedx_tool(raw: msgspec.Raw) -> str:
    # A list of tools until 1.4, an object with components since 1.5; who made it is no reason to refuse a document.
    if not is_given(raw):
        return ""
    try:
        found = _TOOLS.decode(raw)
    except UNDECODABLE:
        return ""
    tools = found if isinstance(found, list) else found.components or []
    return sanitize(", ".join("-".join(part for part in (t.name, t.version) if part) for t in tools), MAX_TOOL)


# Licences: SPDX expressions, names, or nothing.

_NOASSERTION = "NOASSERTION"  # SPDX 2.3, 7.13: the publisher says nothing; NONE says that there is no licence
_NONE = "NONE"
MAX_PARTS = 160  # licences of one expression that are counted apart: libgcc of RHEL 10 has 34
# SPDX 2.3, annex D: an identifier, with `+` for later versions, or a reference to a licence of the same or another document.
_OPERATOR = re.compile(r"\s+(?:AND|OR)\s+")
_SIMPLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.:+-]*(?: WITH [A-Za-z0-9][A-Za-z0-9.:+-]*)?")
_TOKEN = re.compile(rf"[()]|{_OPERATOR.pattern}")


@lru_cache(maxsize=1024)
def identifiers(licence: str) -> tuple[str, ...]:
    """Return the licences of an expression, each once and sorted; a text that is no expression as it is."""
    # Names such as `Apache License, Version 2.0` are common in CycloneDX: they must not fall into words.
    found = _of_expression(licence) or _of_names(licence)
    return tuple(sorted(found)) if 0 < len(found) <= MAX_PARTS else (licence,)


def _of_expression(text: str) -> set[str]:
    """Return the licences of an expression; none for another text."""
    plain = text.replace("(", " ").replace(")", " ")
    parts = {" ".join(part.split()) for part in _OPERATOR.split(plain.strip())}
    return parts if all(map(_SIMPLE.fullmatch, parts)) else set()


def _of_names(text: str) -> set[str]:
    """Return the licences of several texts, of which those in parentheses may be names; none for one text, or another form."""
    found: set[str] = set()
    parts = _outer_parts(text)
    for part in parts if len(parts) > 1 else ():
        is_enclosed = part.startswith("(") and part.endswith(")")
        of_part = _of_expression(part) or ({part[1:-1].strip()} if is_enclosed else set())
        if not of_part:
            return set()
        found |= of_part
    return found


def _outer_parts(text: str) -> list[str]:
    """Return the parts between operators that are in no parentheses; none where the parentheses are not in pairs."""
    parts, begin, depth = [], 0, 0
    for token in _TOKEN.finditer(text):
        depth += {"(": 1, ")": -1}.get(token[0], 0)
        if depth < 0:
            return []
        if not depth and token[0] != ")":
            parts.append(text[begin : token.start()])
            begin = token.end()
    return [*parts, text[begin:]] if not depth else []


def _enclosed(text: str) -> str:
    """Return one of several licences in parentheses, unless it is a single identifier: `_of_names` knows it as one then."""
    if _SIMPLE.fullmatch(text):
        return text
    return f"({text if _outer_parts(text) else text.replace('(', '').replace(')', '')})"
