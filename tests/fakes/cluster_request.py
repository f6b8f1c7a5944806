"""What the API server is asked: a line of its log, and what a path names."""

from __future__ import annotations

from dataclasses import dataclass

from tests.fakes.cluster_kinds import Served


@dataclass
class Request:
    """One line of the log. `status` 0: no answer was given."""

    method: str
    path: str
    query: dict[str, str]
    content_type: str
    body: bytes = b""
    status: int = 0

    @property
    def writes(self) -> bool:
        return (
            self.method != "GET"
            and "dryRun" not in self.query
            and not self.path.endswith(("accessreviews", "selfsubjectreviews"))
        )


@dataclass(frozen=True)
class Target:
    """What a path names: a kind, perhaps in a namespace, perhaps one object of it."""

    kind: Served
    namespace: str
    name: str
    subresource: str
