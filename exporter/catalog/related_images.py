"""The images that a bundle needs: its own, its `relatedImages`, and those that its ClusterServiceVersion names.

Entries that are not references become problems. Rules: docs/reference/selection.md, *Images of a bundle*. Source of the
fields: OLM, operators.coreos.com/v1alpha1, ClusterServiceVersion.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from common.archive.inventory import ImageKind, Problem, ProblemCode
from common.errors import UsageError
from common.oci.reference import Reference
from common.serialization import DocumentError, load_yaml_documents
from exporter.catalog.model import BUNDLE_OBJECT, Bundle
from exporter.images.resolve import WantedImage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from common.oci.image import Platform


# The images of a ClusterServiceVersion: its own list, the containers of its deployments, and their environment. In the
# community catalog 8 % of bundles name an image in the environment only.

KIND = "ClusterServiceVersion"
# A reference with registry, and with tag or digest: looser patterns match paths, Java classes and options as well. Possessive,
# with the dot of the host in a lookahead: values have any length, and no part of one is tried twice.
_WHOLE = re.compile(
    r"(?=[a-z0-9.-]+\.[a-z0-9.-])[a-z0-9.-]++(?::\d+)?(?:/[a-z0-9._-]++)++"
    r"(?::[\w][\w.-]*|@sha256:[0-9a-f]{64}|:[\w.-]+@sha256:[0-9a-f]{64})"
)


class Origin(StrEnum):
    """Where a reference was found."""

    BUNDLE = "the bundle image"
    LIST = "relatedImages"
    VALUE = "relatedImages (under `value`)"
    CONTAINER = "a container of a deployment"
    ENVIRONMENT = "an environment variable"


@dataclass(frozen=True, slots=True)
class FoundImage:
    """A text that should be a reference, as written; `name` is the name that the publisher gives the image."""

    name: str
    text: str
    origin: Origin


def images_in_csv(csv: Any) -> Iterator[FoundImage]:
    """Yield each image that a ClusterServiceVersion names; fields of the wrong type are skipped."""
    for entry in _listed(csv, "spec", "relatedImages"):
        name, image, value = (_text(entry, key) for key in ("name", "image", "value"))
        yield FoundImage(name, value if value and not image.strip() else image, Origin.LIST if image.strip() else Origin.VALUE)
    for deployment in _listed(csv, "spec", "install", "spec", "deployments"):
        pod = _under(deployment, "spec", "template", "spec")
        for container in (*_listed(pod, "containers"), *_listed(pod, "initContainers")):
            name = _text(container, "name")
            yield FoundImage(name, _text(container, "image"), Origin.CONTAINER)
            for variable in _listed(container, "env"):
                if _names_an_image(_text(variable, "name"), _text(variable, "value")):
                    yield FoundImage(_text(variable, "name"), _text(variable, "value"), Origin.ENVIRONMENT)


def runs_something(csv: Any) -> bool:
    """Return whether a ClusterServiceVersion says that it has deployments, in any form."""
    return bool(_under(csv, "spec", "install", "spec", "deployments"))


def _names_an_image(name: str, value: str) -> bool:
    """Return whether the value of a variable is an image. A variable without a value gets it at run time."""
    # RELATED_IMAGE_ is the convention of Red Hat's build service (OSBS), which pins these values. Other publishers have names
    # of their own, for which the value decides.
    return bool(value) and (
        name.startswith("RELATED_IMAGE_") or ("IMAGE" in name and _WHOLE.fullmatch(value.strip()) is not None)
    )


def _under(value: Any, *path: str) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _listed(value: Any, *path: str) -> Iterator[dict[str, Any]]:
    found = _under(value, *path)
    return (one for one in found if isinstance(one, dict)) if isinstance(found, list) else iter(())


def _text(value: dict[str, Any], key: str) -> str:
    text = value.get(key)
    return text if isinstance(text, str) else ""


# Texts of templates that publishers did not fill in, seen in real catalogs.
_PLACEHOLDER = re.compile(r"[$<>{}]|REPLACE|PLACEHOLDER|CHANGEME|^(?:TODO|TBD|N/A|none|null)$", re.IGNORECASE)
# Registries of Red Hat's builds, and services of a cluster: not reachable by customers, so no lookup is attempted.
_INTERNAL = re.compile(
    r"registry-proxy(?:-stage)?\.engineering\.redhat\.com|registry\.stage\.redhat\.io|.*\.svc(?:\.cluster\.local)?"
)
# Errors of base64 and of documents that any publisher may have written.
_NO_OBJECT = (binascii.Error, ValueError, RecursionError, msgspec.DecodeError, DocumentError)


def images_of(
    bundle: Bundle,
    more: Iterable[FoundImage] = (),
    *,
    needed_by: tuple[str, ...] = (),
    platforms: tuple[Platform, ...] = (),
) -> tuple[tuple[WantedImage, ...], tuple[Problem, ...]]:
    """Return each image of a bundle once, in the order found, and a problem for each entry that is not a reference.

    `more`: the images that the manifests of its bundle image name, where these were read. `needed_by` and `platforms` are
    copied into the result.

    References are trimmed, rid of `docker://`, and given `latest` where they have neither tag nor digest. The subject of a
    problem is `package/bundle`. Never raises for the contents of a bundle.
    """
    # By reference: most images are in several of the lists. The first mention decides the kind, so the bundle's own is first.
    images: dict[Reference, WantedImage] = {}
    problems: dict[tuple[str, str], Problem] = {}
    found = [*_found(bundle), *more]
    usable = {one.name for one in found if one.name and one.text.strip()}
    for one in found:
        if not one.text.strip() and one.name in usable:
            continue  # another list has the image of this name
        result = _reference(bundle, one)
        if isinstance(result, Problem):
            problems.setdefault((result.code, one.text.strip() or one.name), result)
            continue
        kind = ImageKind.BUNDLE if one.origin is Origin.BUNDLE else ImageKind.RELATED
        images.setdefault(result, WantedImage(result, kind, needed_by, platforms))
        if one.origin is Origin.VALUE:
            problems.setdefault((ProblemCode.RELATED_IMAGE_RECOVERED, one.text.strip()), _recovered(bundle, one))
    return tuple(images.values()), tuple(problems.values())


def _found(bundle: Bundle) -> Iterator[FoundImage]:
    # A bundle with inlined objects needs no image; one with neither gets the problem of an empty reference.
    if bundle.image.strip() or not bundle.has(BUNDLE_OBJECT):
        yield FoundImage("", bundle.image, Origin.BUNDLE)
    for one in bundle.related_images:
        yield FoundImage(one.name, one.misplaced or one.image, Origin.VALUE if one.misplaced else Origin.LIST)
    for csv in inline_csvs(bundle):
        yield from images_in_csv(csv)


def csvs_of(resources: Iterable[Any]) -> Iterator[Any]:
    """Yield the ClusterServiceVersions among Kubernetes objects."""
    return (one for one in resources if isinstance(one, dict) and one.get("kind") == KIND)


def inline_csvs(bundle: Bundle) -> Iterator[Any]:
    """Yield each ClusterServiceVersion inlined as `olm.bundle.object`, as JSON values."""
    for value in bundle.values(BUNDLE_OBJECT):
        data = value.get("data") if isinstance(value, dict) else None
        for resource in _resources(data) if isinstance(data, str) else ():
            if isinstance(resource, dict) and resource.get("kind") == KIND:
                yield resource


def inline_objects(bundle: Bundle) -> Iterator[bytes]:
    """Yield each object of `olm.bundle.object` as JSON, without those that cannot be parsed."""
    for value in bundle.values(BUNDLE_OBJECT):
        try:
            raw = base64.b64decode(value["data"], validate=True)
            yield msgspec.json.encode(msgspec.json.decode(raw))
        except (TypeError, KeyError, binascii.Error, ValueError, RecursionError, msgspec.DecodeError):
            continue


def unreadable_objects(bundle: Bundle, *, filtered: bool) -> Iterator[Problem]:
    """Yield a problem for each `olm.bundle.object` that is not a Kubernetes object, because OLM would install less.

    For bundles that OLM installs from the catalog. `filtered`: the catalog is rewritten, without files that objects refer to.
    """
    for number, value in enumerate(bundle.values(BUNDLE_OBJECT), 1):
        if fault := _fault(value, filtered=filtered):
            message = f"{BUNDLE_OBJECT} {number} of {bundle.name}: {fault}; OLM cannot install the bundle"
            yield _problem(bundle, ProblemCode.BUNDLE_UNREADABLE, message)


def _fault(value: Any, *, filtered: bool) -> str:
    """Return why the value of an `olm.bundle.object` is not an object; empty when it is."""
    data = value.get("data") if isinstance(value, dict) else None
    if not isinstance(data, str):
        ref = value.get("ref") if isinstance(value, dict) else None
        if not isinstance(ref, str):
            return "it has no data"
        return f"it is in the file {ref[:200]}, which a filtered catalog does not have" if filtered else ""
    try:
        documents = _documents(base64.b64decode(data, validate=True))
    except _NO_OBJECT as error:
        return f"it cannot be read: {error.message if isinstance(error, DocumentError) else error}"
    return "" if documents and all(isinstance(one, dict) for one in documents) else "it is no object"


def _resources(data: str) -> Iterable[Any]:
    try:
        raw = base64.b64decode(data, validate=True)
        if f'"{KIND}"'.encode() not in raw and f" {KIND}".encode() not in raw:
            return ()  # most objects are of other kinds, and large: not decoded
        return _documents(raw)
    except _NO_OBJECT:
        return ()


def _documents(raw: bytes) -> list[Any]:
    """Return the documents of an `olm.bundle.object`, JSON or YAML. Raises one of `_NO_OBJECT`."""
    if raw.lstrip()[:1] == b"{":  # JSON is YAML too, but msgspec is faster by far
        return [msgspec.json.decode(raw)]
    return list(load_yaml_documents(raw, BUNDLE_OBJECT, forgiving=True))


def _reference(bundle: Bundle, one: FoundImage) -> Reference | Problem:
    text = one.text.strip().removeprefix("docker://").strip()
    if not text:
        return _problem(bundle, ProblemCode.RELATED_IMAGE_EMPTY, f"{_label(one)} has no reference")
    if _PLACEHOLDER.search(text):
        return _problem(bundle, ProblemCode.RELATED_IMAGE_INVALID, f"{_label(one)} is a placeholder: {text[:200]!r}")
    try:
        reference = Reference.parse(text)
    except UsageError as error:
        return _problem(bundle, ProblemCode.RELATED_IMAGE_INVALID, f"{_label(one)}: {error.message}")
    if _INTERNAL.fullmatch(re.sub(r":\d+$", "", reference.registry)):
        message = f"{_label(one)}: {reference} is in a registry that only its publisher reaches"
        return _problem(bundle, ProblemCode.RELATED_IMAGE_INTERNAL, message)
    # Container engines pull `latest` for a name alone (distribution, reference/normalize.go, TagNameOnly).
    return replace(reference, tag="latest") if reference.tag is None and reference.digest is None else reference


def _recovered(bundle: Bundle, one: FoundImage) -> Problem:
    message = f"image {one.name!r} of relatedImages is under `value`, not `image`; carried nevertheless: {one.text.strip()}"
    return _problem(bundle, ProblemCode.RELATED_IMAGE_RECOVERED, message, "warning")


def _label(one: FoundImage) -> str:
    if one.origin is Origin.BUNDLE:
        return "the bundle image"
    return f"image {one.name!r} of {one.origin}" if one.name else f"an image without a name of {one.origin}"


def _problem(bundle: Bundle, code: ProblemCode, message: str, severity: Literal["error", "warning"] = "error") -> Problem:
    return Problem(severity, code, f"{bundle.package}/{bundle.name}", message)
