"""What the API server's refusals become: one class per thing that a caller can do about it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from common.errors import ClusterError
from importer.cluster.kinds import Kind

_NO_CREDENTIALS, _FORBIDDEN, _CONFLICT = 401, 403, 409
_PASSING = frozenset((408, 429, 500, 502, 503, 504))
_LONGEST = 600


class UnavailableError(ClusterError):
    """No answer, or one that says to come back: worth another try."""


class ForbiddenError(ClusterError):
    """The cluster knows who we are, and does not let us."""


class ConflictError(ClusterError):
    """Somebody else wrote first, or owns the field. `fields`: (manager, field) pairs, empty for a mere race."""

    def __init__(self, message: str, *, hint: str = "", fields: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(message, hint=hint)
        self.fields = fields


@dataclass(frozen=True, slots=True)
class Attempt:
    """What was asked of which server, for the message."""

    verb: str
    kind: Kind
    subject: str
    server: str


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP status and the `Status` object that came with it; empty when there was none."""

    status: int
    document: Mapping[str, Any]


def refusal(answer: Answer, attempt: Attempt) -> ClusterError:
    """Return the error for an answer that is none of success."""
    said = str(answer.document.get("message") or f"HTTP {answer.status}")[:_LONGEST]
    status, verb, subject = answer.status, attempt.verb, attempt.subject
    if status == _NO_CREDENTIALS:
        return ClusterError(
            f"{attempt.server} does not accept the credentials",
            hint="Log in again (oc login), or give another --kubeconfig or --context.",
        )
    if status == _FORBIDDEN:
        return ForbiddenError(
            f"not allowed to {verb} {attempt.kind.path} ({subject}): {said}",
            hint="Ask an administrator for that permission; `hub-import render --rbac` writes all that are needed.",
        )
    if status == _CONFLICT:
        return ConflictError(
            f"{subject}: {said}",
            hint="Something else keeps changing it; apply again when that is quiet.",
            fields=_owned(answer.document),
        )
    if status in _PASSING:
        return UnavailableError(f"cannot {verb} {subject} now: {said}", hint="The API server is busy or restarting; try again.")
    return ClusterError(f"cannot {verb} {subject}: {said}", hint="The answer is the cluster's own; `oc describe` tells more.")


def _owned(document: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Read the causes of a server-side apply conflict: `conflict with "manager" using v1: .spec.image`."""
    details = document.get("details")
    causes = details.get("causes") if isinstance(details, dict) else None
    return tuple(
        (str(cause.get("message", "")).partition('"')[2].partition('"')[0], str(cause.get("field", "")))
        for cause in (causes if isinstance(causes, list) else [])
        if isinstance(cause, dict) and cause.get("reason") == "FieldManagerConflict"
    )
