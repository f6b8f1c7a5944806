"""Checks of a plan before it is carried out, and of the problems that remain."""

from __future__ import annotations

from typing import TYPE_CHECKING

from common.archive.inventory import ProblemCode
from common.errors import ProblemsError, RegistryError
from common.text import counted
from exporter.plan import mapping

if TYPE_CHECKING:
    from collections.abc import Sequence

    from common.archive.inventory import Problem
    from exporter.plan.plan import ExportPlan

_SHOWN = 20  # problems that an error lists: one screen; `hub-export plan` lists all


def check(plan: ExportPlan, *, strict: bool) -> None:
    """Raise ProblemsError, UsageError or RegistryError for a plan that must not, or cannot, be carried out."""
    mapping.find(plan)  # again: a plan may come from a file that an earlier version wrote
    if strict and plan.problems:
        raise strict_error(plan.problems)
    _require_signed(plan.problems)
    _require_content(plan)


def _require_signed(problems: Sequence[Problem]) -> None:
    # All of them in one error, so that one run is enough to correct the image set.
    missing = [problem for problem in problems if problem.code is ProblemCode.SIGNATURE_MISSING]
    if missing:
        listed = "".join(f"\n  {problem.subject}: {problem.message}" for problem in missing[:_SHOWN])
        raise ProblemsError(
            f"{counted(len(missing), 'image')} without a signature, and --signatures require was given:{listed}",
            hint="Leave them out with blockedImages, or say --signatures carry.",
        )


def _require_content(plan: ExportPlan) -> None:
    """Raise RegistryError when none of the images could be resolved: an empty archive would look like a success."""
    if plan.images and not plan.documents:
        sources, many = {image.source for image in plan.images}, len(plan.images)
        first = next((problem for problem in plan.problems if problem.subject in sources), plan.problems[0])
        lead = f"none of the {many} images can be fetched; the first: " if many > 1 else ""
        hint = f"Nothing was written. What {first.code} means: docs/problems.md; hub-export plan lists all."
        raise RegistryError(f"{lead}{first.subject}: {first.message}", hint=hint)


def strict_error(problems: Sequence[Problem]) -> ProblemsError:
    """Return the error that `--strict` makes of problems."""
    listed = "".join(f"\n  {p.severity}: {p.subject}: {p.message}" for p in problems[:_SHOWN])
    return ProblemsError(f"{len(problems)} problems, and --strict was given:{listed}")
