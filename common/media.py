"""Errors of a medium: a stick that was pulled, a share that is not there any more, a disk that breaks."""

from __future__ import annotations

import errno
from contextlib import contextmanager
from typing import TYPE_CHECKING

from common.errors import MediumGoneError

if TYPE_CHECKING:
    from collections.abc import Iterator


# ENOTCONN: a FUSE file system whose program ended, as ntfs-3g does when its stick is pulled; ESTALE: NFS; ENODEV, ENXIO and
# ENOMEDIUM: the device or its driver.
GONE = frozenset({errno.ENOTCONN, errno.ESTALE, errno.ENODEV, errno.ENXIO, errno.ENOMEDIUM, errno.ESHUTDOWN})
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
BROKEN = GONE | {errno.EIO, errno.EREMOTEIO, errno.EROFS}  # EROFS: Linux mounts a failing disk read-only (ext4, errors=)
AGAIN = "Connect and mount it again, or choose another; run the same command again: what is finished is kept."


def explained(error: OSError) -> str:
    """Return what an error of a medium means, with the system's own words."""
    why = error.strerror or str(error)
    return f"the medium is gone: {why}" if error.errno in GONE else why


def gone(what: object, error: BaseException) -> MediumGoneError | None:
    """Return the error for a medium that was removed while `what` was read; None for any other error."""
    if isinstance(error, OSError) and error.errno in GONE:
        return MediumGoneError(f"{what}: {explained(error)}")
    return None


@contextmanager
def reading(what: object) -> Iterator[None]:
    """Raise MediumGoneError where `what` cannot be read because its medium is gone; other errors pass."""
    try:
        yield
    except OSError as error:
        if (problem := gone(what, error)) is not None:
            raise problem from error
        raise
