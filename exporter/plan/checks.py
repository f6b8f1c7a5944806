"""Checks of a plan: problems that stop it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.archive.inventory import Problem, ProblemCode
from common.errors import ProblemsError, RegistryError
from common.text import counted, shortened
from exporter.plan import mapping

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exporter.plan.plan import ExportPlan


_SHOWN = 20  # problems that an error lists: one screen; `hub-export plan` lists all


def check(plan: ExportPlan, *, strict: bool) -> None:
    """Raise ProblemsError, UsageError or RegistryError for a plan that must not, or cannot, be carried out."""
    mapping.find(plan)  # again: a plan may come from a file that an earlier version wrote
    if strict:
        require_none(plan.problems)
    _require_signed(plan.problems)
    _require_content(plan)


def _require_signed(problems: Sequence[Problem]) -> None:
    # All of them in one error, so that one run is enough to correct the image set.
    missing = [problem for problem in problems if problem.code is ProblemCode.SIGNATURE_MISSING]
    if missing:
        raise ProblemsError(
            f"{counted(len(missing), 'image')} without a signature, and --signatures require was given:",
            details=shortened([f"{problem.subject}: {problem.message}" for problem in missing], _SHOWN),
            hint="Leave them out with blockedImages, or say --signatures carry.",
        )


def _require_content(plan: ExportPlan) -> None:
    """Raise RegistryError when none of the images could be resolved: an empty archive would look like a success."""
    if plan.images and not plan.documents:
        sources, many = {image.source for image in plan.images}, len(plan.images)
        first = next((problem for problem in plan.problems if problem.subject in sources), plan.problems[0])
        lead = f"none of the {many} images can be fetched; the first: " if many > 1 else ""
        hint = f"Nothing was written. What {first.code} means: docs/reference/problems.md; hub-export plan lists all."
        raise RegistryError(f"{lead}{first.subject}: {first.message}", hint=hint)


def require_none(problems: Sequence[Problem]) -> None:
    """Raise the error that `--strict` makes of problems: all but notes, which say what the image set allows."""
    serious = [problem for problem in problems if problem.code is not ProblemCode.PACKAGE_ABSENT]
    if serious:
        details = shortened([f"{p.severity}: {p.subject}: {p.message}" for p in serious], _SHOWN)
        raise ProblemsError(f"{counted(len(serious), 'problem')}, and --strict was given:", details=details)
