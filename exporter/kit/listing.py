"""What `kit` prints: as a document for programs, as a table for people."""

from __future__ import annotations

from typing import Any

from common.columns import columns, counted
from common.errors import ExitCode
from common.files import size_text
from exporter.kit.making import Kit


def document(kit: Kit) -> dict[str, Any]:
    """Return the result as docs/cli.md describes it."""
    return {
        "kit": str(kit.path),
        "bytes": kit.size,
        "wheels": kit.wheels,
        "runtimes": [
            {
                "platform": str(each.runtime.platform),
                "python": each.runtime.python,
                "installs": each.usable,
                "lacks": list(each.lacks),
            }
            for each in kit.sets
        ],
        "images": [{"platform": str(platform), "file": name} for platform, name in kit.images.items()],
        "problems": [{"severity": "error", "subject": subject, "message": message} for subject, message in kit.problems],
    }


def table(kit: Kit) -> str:
    """Return the result for people."""
    rows = [("PLATFORM", "PYTHON", "INSTALLS", "NO WHEEL OF")]
    rows += [
        (str(each.runtime.platform), each.runtime.python, "yes" if each.usable else "no", ", ".join(each.lacks) or "-")
        for each in kit.sets
    ]
    parts = [columns(rows)]
    if kit.images:
        parts.append("images: " + ", ".join(kit.images.values()))
    parts += ["\n".join(f"error: {subject}: {message}" for subject, message in kit.problems)] if kit.problems else []
    parts.append(f"{kit.path}: {counted(kit.wheels, 'wheel')}, {size_text(kit.size)}; on the other side: sh install.sh")
    return "\n\n".join(parts)


def outcome(kit: Kit) -> ExitCode:
    """Return what its problems mean."""
    return ExitCode.PROBLEMS if kit.problems else ExitCode.DONE
