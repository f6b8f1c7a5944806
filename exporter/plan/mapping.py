"""`mapping.txt`, as `oc adm catalog mirror --manifests-only` writes it: a line for each image, to be edited.

`SOURCE=PATH:TAG`. Only the source is read; the rest shows the path below the mirror. Images whose lines are removed are not
carried (`create --images`); empty lines and those that begin with `#` are ignored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.archive.inventory import ATTACHED, ImageKind, ImageRecord, Problem, ProblemCode, repository_of
from common.errors import UsageError
from common.files import open_argument, write_atomic, writing
from common.mapping import Collision, Mirror, collisions, fixed_paths, place_images
from common.oci.image import hex_of
from common.oci.reference import Reference
from common.text import counted, shortened

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from common.archive.inventory import ReleaseRecord
    from exporter.plan.plan import ExportPlan


NAME = "mapping.txt"
MAX_SIZE = 256 * 1024 * 1024  # a line has about 200 bytes, and the largest catalog 25,000 images
_HINT = "Wanted: a mapping.txt; hub-export create --manifests-only makes one."
_HEADER = "# What is listed is carried; take lines out and give the file to: hub-export create --images mapping.txt\n"


def render(images: Iterable[ImageRecord], releases: Iterable[ReleaseRecord] = ()) -> bytes:
    """Return the file of the images that exist, without catalogs, releases, signatures and attachments."""
    # These follow from the image set and from other images, so they are no choice.
    implied = ATTACHED | {ImageKind.CATALOG, ImageKind.RELEASE, ImageKind.COMPONENT, ImageKind.GRAPH_DATA}
    chosen = [image for image in images if image.digest is not None and image.kind not in implied]
    fixed = fixed_paths(releases)
    return (_HEADER + "".join(f"{image.source}={_place(image, fixed)}\n" for image in chosen)).encode()


def write(directory: Path, images: Iterable[ImageRecord], releases: Iterable[ReleaseRecord] = ()) -> Path:
    """Write the file into a directory, which is made where it is missing; return its path. Raises UsageError."""
    path = directory / NAME
    with writing(path, "Choose another --output."):
        directory.mkdir(parents=True, exist_ok=True)
        write_atomic(path, render(images, releases))
    return path


def _place(image: ImageRecord, fixed: Mapping[str, str]) -> str:
    assert image.digest is not None
    name = Reference.parse(image.source).name
    path = image.target_repository or fixed.get(name) or repository_of(image).partition("/")[2]
    return f"{path}:{image.target_tag or image.tag or f'hub-sha256-{hex_of(image.digest)}'}"


def read(path: Path, *, may_be_empty: bool = False) -> frozenset[str]:
    """Return the sources that a file lists. Raises UsageError with the line that names no image, and for no image at all.

    `may_be_empty`: images that the file does not list, those of releases, are carried in any case.
    """
    try:
        with open_argument(path) as file:
            raw = file.read(MAX_SIZE + 1)
        # Not decoded beyond the limit, where the cut may be inside of a character.
        text = raw.decode() if len(raw) <= MAX_SIZE else ""
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise UsageError(f"--images {path}: cannot be read: {why}", hint=_HINT) from error
    if len(raw) > MAX_SIZE:
        raise UsageError(f"--images {path}: more than {MAX_SIZE} bytes", hint=_HINT)
    sources = set()
    for number, line in enumerate(text.splitlines(), 1):
        source = line.strip().partition("=")[0].strip()
        if not source or source.startswith("#"):
            continue
        if "/" not in source or " " in source:
            raise UsageError(f"--images {path}:{number}: no image: {line[:100]!r}", hint="Wanted: SOURCE or SOURCE=PATH:TAG.")
        sources.add(source)
    if not sources and not may_be_empty:
        raise UsageError(f"--images {path}: lists no image", hint=_HINT)
    return frozenset(sources)


# Collisions: names on the mirror that two images of a plan would claim, by the rule of `push` (common/mapping.py). The options
# of `push` are not known here: a collision on every mirror is an error, one that --keep-source-host avoids is a warning
# (docs/reference/registry.md, *Paths on the mirror*).

# The name of the mirror makes no difference. Its other options only join paths that differ.
_MIRROR = Mirror("mirror.invalid")
_WITH_HOSTS = Mirror("mirror.invalid", keep_source_host=True)
_SHOWN = 20


def find(plan: ExportPlan) -> tuple[Problem, ...]:
    """Return a warning for each name that images may meet under. Raises UsageError when some meet on every mirror."""
    found = list(collisions(place_images(plan.catalogs, plan.images, _MIRROR, plan.releases)))
    if certain := [collision for collision in found if collision.certain]:
        raise _refused(certain)
    # Other images may meet only where hosts are kept: a `targetRepo` that begins with one. Then neither way is left.
    if found and (with_hosts := list(collisions(place_images(plan.catalogs, plan.images, _WITH_HOSTS, plan.releases)))):
        raise _refused([*found, *with_hosts], _WITH_HOSTS)
    return tuple(
        Problem(
            "warning",
            ProblemCode.REFERENCE_COLLISION,
            _claimed_place(collision),
            f"{collision.sources} would meet there on the mirror, with different content. {collision.advice()}",
        )
        for collision in found
    )


def _refused(certain: list[Collision], mirror: Mirror | None = None) -> UsageError:
    """Return the error for names that no push could give; `mirror`: the one that the advice is for."""
    texts = [f"{collision.sources} would both become {_claimed_place(collision)} on the mirror" for collision in certain]
    hint = " ".join(dict.fromkeys(collision.advice(mirror) for collision in certain))
    if len(texts) == 1:
        return UsageError(f"{texts[0]}, with different content", hint=hint)
    message = f"{counted(len(texts), 'name')} on the mirror for images of different content:"
    return UsageError(message, details=shortened(texts, _SHOWN), hint=hint)


def _claimed_place(collision: Collision) -> str:
    return f"{collision.place.repository}:{collision.place.tag}"
