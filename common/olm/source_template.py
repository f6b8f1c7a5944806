"""The CatalogSource template of an image set (`targetCatalogSourceTemplate`), as both programs read it."""

from __future__ import annotations

from typing import Any

import msgspec


class Spec(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The fields of a template that are used; not the image, and not `updateStrategy`, since a digest needs no polling."""

    display_name: str | None = None
    description: str | None = None
    publisher: str | None = None
    icon: dict[str, str] | None = None
    priority: int | None = None
    secrets: tuple[str, ...] = ()
    grpc_pod_config: dict[str, Any] | None = None


class Template(msgspec.Struct, frozen=True):
    """A template; its name and namespace are those of the catalog."""

    spec: Spec | None = None


# Made at import: msgspec inspects a type at its first use, and crashes where two threads do so together.
_INSPECTED = msgspec.json.Decoder(Template)
