"""What happens between the commands of a document, without one."""

from __future__ import annotations

from pathlib import Path

from tests.docs.goods import Hall


def happen(words: tuple[str, ...], hall: Hall, home: Path) -> None:
    """Let one thing happen.

    `week`: the publisher moves on; `scratch FILE`: bytes in its middle go bad; `lose FILE`; `manifests DIR`: package manifests.
    """
    what, *names = words
    paths = [home / name for name in names]
    if what == "week":
        hall.publish(hall.files)
    elif what == "scratch":
        raw = bytearray(paths[0].read_bytes())
        middle = len(raw) // 2
        raw[middle : middle + 4096] = bytes(255 - byte for byte in raw[middle : middle + 4096])
        paths[0].write_bytes(raw)
    elif what == "lose":
        paths[0].unlink()
    elif what == "manifests":
        hall.bring_manifests(paths[0])
    else:
        raise ValueError(f"nobody knows what happens: {words}")
