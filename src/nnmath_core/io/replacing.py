"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from typing import IO

__all__ = ["replacing"]


@contextlib.contextmanager
def replacing(target: str) -> Iterator[IO[bytes]]:
    """Open a new file that takes the place of ``target`` when the block ends well.

    It is written under another name beside it, flushed to the disk and renamed: a crash at any
    moment leaves the old file or the new one.
    """
    folder, base = os.path.split(os.path.abspath(target))
    beside = os.path.join(folder, f".{base}.{secrets.token_hex(8)}.tmp")
    try:
        with open(beside, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if os.path.exists(target):
            shutil.copymode(target, beside)
        os.replace(beside, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        raise
    _sync_folder(folder)


def _sync_folder(folder: str) -> None:
    """Make the renaming itself survive a crash; a folder cannot be opened on Windows."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
