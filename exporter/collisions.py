"""Names on the mirror that two images of a plan would claim, by the rule that `push` follows (`common/mapping.py`). Pure.

How the mirror lays paths is known on the other side only. What meets on every mirror is an error; what --keep-source-host parts
is a warning, for the importer has the last word (docs/registry.md, *Paths on the mirror*).
"""

from __future__ import annotations

from common.archive.inventory import Problem, ProblemCode
from common.columns import counted
from common.errors import UsageError
from common.mapping import Meeting, Mirror, lay, meetings
from exporter.plan import ExportPlan

_MIRROR = Mirror("mirror.invalid")  # the name of the mirror makes no difference
_SHOWN = 20


def find(plan: ExportPlan) -> tuple[Problem, ...]:
    """Return a warning for each name that images may meet under. Raises UsageError when some meet on every mirror."""
    found = list(meetings(lay(plan.catalogs, plan.images, _MIRROR)))
    if certain := [meeting for meeting in found if meeting.certain]:
        raise _refused(certain)
    return tuple(
        Problem(
            "warning",
            ProblemCode.REFERENCE_COLLISION,
            _place(meeting),
            f"{meeting.sources} would meet there on the mirror, with different content. {meeting.advice()}",
        )
        for meeting in found
    )


def _refused(certain: list[Meeting]) -> UsageError:
    texts = [f"{meeting.sources} would both become {_place(meeting)} on the mirror" for meeting in certain]
    hint = " ".join(dict.fromkeys(meeting.advice() for meeting in certain))
    if len(texts) == 1:
        return UsageError(f"{texts[0]}, with different content", hint=hint)
    more = [f"and {len(texts) - _SHOWN} more"] if len(texts) > _SHOWN else []
    listed = "".join(f"\n  {text}" for text in (*texts[:_SHOWN], *more))
    return UsageError(f"{counted(len(texts), 'name')} on the mirror for images of different content:{listed}", hint=hint)


def _place(meeting: Meeting) -> str:
    return f"{meeting.place.repository}:{meeting.place.tag}"
