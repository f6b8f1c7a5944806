"""Licences as SBOMs state them: SPDX expressions, names, or nothing. No I/O."""

from __future__ import annotations

import re
from functools import lru_cache

NOASSERTION = "NOASSERTION"  # SPDX 2.3, 7.13: the publisher says nothing; NONE says that there is no licence
NONE = "NONE"
_MAX_EXPRESSION = 500  # characters: one of a container's base layer has some hundred
_MAX_PARTS = 32  # licences of one expression that are counted apart
# SPDX 2.3, annex D: an identifier, with `+` for later versions, or a reference to a licence of the same or another document.
_OPERATOR = re.compile(r"\s+(?:AND|OR)\s+")
_SIMPLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.:+-]*(?: WITH [A-Za-z0-9][A-Za-z0-9.:+-]*)?")


def first_stated(*texts: str) -> str:
    """Return the first licence that says something; NONE before NOASSERTION where none does."""
    stated = next((text for text in texts if text and text not in {NOASSERTION, NONE}), "")
    return stated or (NONE if NONE in texts else NOASSERTION)


@lru_cache(maxsize=4096)
def identifiers(licence: str) -> tuple[str, ...]:
    """Return the licences of an expression, each once and sorted; a text that is no expression as it is."""
    # Names such as `Apache License, Version 2.0` are common in CycloneDX: they must not fall into words.
    if len(licence) > _MAX_EXPRESSION:
        return (licence,)
    plain = licence.replace("(", " ").replace(")", " ")
    parts = [" ".join(part.split()) for part in _OPERATOR.split(plain.strip())]
    if len(parts) > _MAX_PARTS or not all(_SIMPLE.fullmatch(part) for part in parts):
        return (licence,)
    return tuple(sorted(set(parts)))
