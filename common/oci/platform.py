"""Platforms: operating system, architecture, variant (OCI image index, property `platform`)."""

from __future__ import annotations

import re
from typing import Self

import msgspec

from common.errors import UsageError

_PATTERN = re.compile(r"([a-z0-9]+)/([a-z0-9_]+)(?:/([a-z0-9.]+))?")


class Platform(msgspec.Struct, frozen=True, order=True, omit_defaults=True):
    """One platform of an index; `linux/arm64/v8` as text."""

    os: str
    architecture: str
    variant: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `os/architecture[/variant]`. Raises UsageError."""
        match = _PATTERN.fullmatch(text)
        if not match:
            raise UsageError(f"not a platform: {text[:80]!r}", hint="Wanted: os/architecture, for example linux/amd64")
        return cls(match[1], match[2], match[3] or "")

    def accepts(self, other: Platform) -> bool:
        """Say whether `other` is what was asked for by `self`; without a variant any will do."""
        same = (self.os, self.architecture) == (other.os, other.architecture)
        return same and self.variant in ("", other.variant)

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)
