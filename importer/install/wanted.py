"""What a person wants installed: packages with channel and version, and how. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from common.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

_LONGEST = 253
_NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")  # RFC 1123 label, as Kubernetes wants it of a namespace
_OBJECT = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")  # RFC 1123 subdomain
_LONGEST_OBJECT = 200  # of 253: `-installer`, and a namespace before it, are added for OLM v1
_TEXT = re.compile(r"[!-~]+")  # of packages, channels and versions; no catalog has others


class Approval(StrEnum):
    """Who approves InstallPlans (operator-framework/api, pkg/operators/v1alpha1, Approval)."""

    AUTOMATIC = "Automatic"
    MANUAL = "Manual"


class InstallMode(StrEnum):
    """Which namespaces an operator watches (clusterserviceversion_types.go, InstallModeType)."""

    OWN = "OwnNamespace"
    SINGLE = "SingleNamespace"
    MULTI = "MultiNamespace"
    ALL = "AllNamespaces"


@dataclass(frozen=True, slots=True)
class Wanted:
    """One package; `channel` empty: its default; `version`: a version or the name of an entry, empty: the head."""

    package: str
    channel: str = ""
    version: str = ""

    @classmethod
    def parse(cls, text: str) -> Wanted:
        """Read `PACKAGE[:CHANNEL][@VERSION]`. Raises UsageError."""
        name, at, version = text.partition("@")
        package, colon, channel = name.partition(":")
        parts = [package, *([channel] if colon else []), *([version] if at else [])]
        if "/" in package:
            raise UsageError(
                f"{text[:80]!r} is a path", hint="Name packages here; the archive is imported with hub-import deploy."
            )
        if not all(_TEXT.fullmatch(each) and len(each) <= _LONGEST for each in parts):
            raise UsageError(
                f"not an operator: {text[:80]!r}", hint="Write PACKAGE[:CHANNEL][@VERSION], as hub-import inspect has them."
            )
        return cls(package, channel, version)

    def __str__(self) -> str:
        return self.package + (f":{self.channel}" if self.channel else "") + (f"@{self.version}" if self.version else "")


@dataclass(frozen=True, slots=True)
class How:
    """How the packages of one run are installed. Empty fields: as the heads suggest.

    `watch`: the namespaces that the operators watch; `catalog`: the CatalogSource, where several have a package;
    `service_account`: of a ClusterExtension, an existing one.
    """

    namespace: str = ""
    approval: Approval = Approval.AUTOMATIC
    mode: InstallMode | None = None
    watch: tuple[str, ...] = ()
    catalog: str = ""
    olm_v1: bool = False
    service_account: str = ""

    def __post_init__(self) -> None:
        for each in (*([self.namespace] if self.namespace else []), *self.watch):
            if not _NAMESPACE.fullmatch(each):
                raise UsageError(
                    f"not the name of a namespace: {each[:80]!r}", hint="Lower-case letters, digits and `-`, at most 63."
                )
        self._require_olm()

    def _require_olm(self) -> None:
        """Raise UsageError for an option that the chosen OLM does not have."""
        if self.service_account and not self.olm_v1:
            raise UsageError("--service-account is of OLM v1", hint="Give --olm v1 too, or leave it out.")
        if self.olm_v1 and self.approval is Approval.MANUAL:
            raise UsageError("OLM v1 has no manual approval", hint="PACKAGE@VERSION keeps a ClusterExtension at that version.")
        if self.olm_v1 and (self.mode is not None or len(self.watch) > 1):
            raise UsageError(
                "OLM v1 has no install modes: an operator watches all namespaces, or one",
                hint="Leave --install-mode out; --watch NAMESPACE names the one.",
            )


def parse_all(texts: Iterable[str]) -> tuple[Wanted, ...]:
    """Read the packages of one run. Raises UsageError, also for a package that is there twice."""
    found = tuple(map(Wanted.parse, texts))
    names = [each.package for each in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"{twice[0]} is there twice", hint="OLM installs one version of a package.")
    return found


def object_name(package: str) -> str:
    """Return the name of the objects of a package: its own, as far as Kubernetes accepts that for an object."""
    # A catalog may name a package with capitals or `_` (operator-registry, alpha/model/model.go, asks for no form).
    if _OBJECT.fullmatch(package) and len(package) <= _LONGEST_OBJECT:
        return package
    kept = "".join(each if each.isascii() and each.isalnum() else "-" for each in package.lower())
    return kept[:_LONGEST_OBJECT].strip("-") or "operator"


def is_namespace(name: str) -> bool:
    """Return whether a name can be that of a namespace."""
    return _NAMESPACE.fullmatch(name) is not None
