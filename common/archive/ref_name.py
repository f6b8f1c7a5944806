"""Names in the `index.json` of an OCI image layout (OCI image specification 1.1, annotations)."""

from __future__ import annotations

import re

from common.digest import Digest

_ALPHANUM = "[A-Za-z0-9]+"
_COMPONENT = rf"{_ALPHANUM}(?:(?:[-._:@+]|--){_ALPHANUM})*"
_REF_NAME = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*", re.ASCII)


def ref_name(source: str, digest: Digest) -> str:
    """Return the name of an image: its source reference, or its digest where that is no name by the OCI grammar."""
    return source if _REF_NAME.fullmatch(source) else digest
