"""Where images hide in a ClusterServiceVersion: its own list, its deployments' containers, their environment.

Pure: takes the resource as JSON values, from a catalog where it is inline or from a bundle image. What the texts are worth is
`related_images.py`'s. Source: facts/openshift.md §8.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

KIND = "ClusterServiceVersion"
_WHOLE = re.compile(
    r"[a-z0-9.-]+\.[a-z0-9.-]+(?::\d+)?(?:/[a-z0-9._-]+)+(?::[\w][\w.-]*|@sha256:[0-9a-f]{64}|:[\w.-]+@sha256:[0-9a-f]{64})"
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
    """A text that should be a reference, as written; `name` is what the publisher calls it."""

    name: str
    text: str
    origin: Origin


def images_in_csv(csv: Any) -> Iterator[FoundImage]:
    """Give every image that a ClusterServiceVersion names; parts of the wrong shape are passed over."""
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


def _names_an_image(name: str, value: str) -> bool:
    """Say whether a variable is there to name an image; one without a value gets it from elsewhere, or is there to be set.

    Besides RELATED_IMAGE_… there are publishers who call theirs otherwise: those count when they are whole references.
    """
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
