"""Mends what parity lies beside: finds the volumes, and mends one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from common.archive import checksums, parity
from common.archive.repair import Repair, Repaired, RepairStatus
from common.columns import counted
from common.errors import ContentError, ExitCode, UsageError
from common.progress import Progress


def repair(paths: Sequence[Path], output: Path | None, progress: Progress) -> list[Repaired]:
    """Mend the volumes of directories, or single ones, that have parity beside them. Raises what `Repair.run` raises.

    Raises UsageError when there is no parity, or a volume is not there at all.
    """
    parity.require_coder()
    volumes = list(dict.fromkeys(volume for path in paths for volume in _volumes(path)))
    if not volumes:
        raise UsageError(
            f"no parity in {', '.join(map(str, paths))}",
            hint="Archives have parity when they were made with --parity. Without it: hub-import verify --rerequest.",
        )
    progress.begin(f"checking {counted(len(volumes), 'volume')}", sum(volume.stat().st_size for volume in volumes))
    found = [Repair(volume, progress.advance, _wanted(volume)).run(output) for volume in volumes]
    progress.end()
    return found


def exit_code(results: Sequence[Repaired]) -> ExitCode:
    """Return 4 when a volume is still damaged."""
    return ExitCode.ARCHIVE if any(one.status is RepairStatus.DAMAGED for one in results) else ExitCode.DONE


def _volumes(path: Path) -> Iterator[Path]:
    if path.is_dir():
        beside = sorted(path.glob(f"*{parity.SUFFIX}"))
    else:
        beside = [path if path.name.endswith(parity.SUFFIX) else path.with_name(path.name + parity.SUFFIX)]
    for file in beside:
        volume = file.with_name(file.name.removesuffix(parity.SUFFIX))
        if not file.is_file() or not volume.is_file():
            absent = volume if file.is_file() else file
            raise UsageError(f"{absent}: no such file", hint="Parity mends a volume that is here, with its parity beside it.")
        yield volume


def _wanted(volume: Path) -> str | None:
    """Return the checksum that SHA256SUMS beside a volume wants; None where nothing says."""
    path = volume.with_name(checksums.NAME)
    try:
        with path.open("rb") as file:
            return checksums.parse(file.read(checksums.MAX_SIZE + 1)).get(volume.name)
    except (OSError, ContentError):
        return None
