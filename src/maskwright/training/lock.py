"""One run at a time in a folder: a lock from the start to the end of a run, which names its holder.

The system frees it when the process ends, however it ends; a file that is left over from a process that was killed
locks nothing.
"""

import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from maskwright.atomic import reason
from maskwright.errors import ConfigError

LOCK = "run.lock"
"""File in the run's folder while a run is going on."""

PATIENCE = 2.0
"""Seconds in which the worker processes of a run that was killed end; until then they hold its files open."""


@contextmanager
def only_run(folder: Path) -> Iterator[None]:
    """Inside, no other run can use the folder, which is made if it is missing.

    Raises ConfigError, naming the process that has it, where another run uses the folder, or nothing can be written.
    """
    handle = _locked(folder)
    try:
        yield
    finally:
        with suppress(OSError):
            (folder / LOCK).unlink()
        _set(handle, locked=False)
        os.close(handle)
        with suppress(OSError):
            folder.rmdir()  # only where the run wrote nothing into it


def _locked(folder: Path) -> int:
    """The open lock file, locked, with a note of who has it."""
    path, until = folder / LOCK, time.monotonic() + PATIENCE
    while True:
        handle = _open(path)
        if not _set(handle, locked=True):
            os.close(handle)
            if time.monotonic() > until:
                text = f"{folder} is in use: {_holder(path)} trains in it. Wait for its end, or name another folder."
                raise ConfigError(text, options=("out",))
            time.sleep(0.1)
        elif _is_at(path, handle):
            break
        else:
            os.close(handle)  # its last holder removed the file between the two steps
    started = datetime.now().astimezone().isoformat(" ", "seconds")
    with suppress(OSError):  # a lock without a note is one too
        os.truncate(handle, 0)
        os.write(handle, json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": started}).encode())
    return handle


def _is_at(path: Path, handle: int) -> bool:
    """Whether the open file still has this path."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _open(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        why = reason(error) or error.strerror
        text = f"{path.parent}: a run cannot write there: {why}. Name another folder."
        raise ConfigError(text, options=("out",)) from error


def _set(handle: int, *, locked: bool) -> bool:
    """Lock the open file or free it: False where another process has it. A system without such locks frees none."""
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(handle, 1 << 20, os.SEEK_SET)  # beyond the note, which others read
            msvcrt.locking(handle, msvcrt.LK_NBLCK if locked else msvcrt.LK_UNLCK, 1)
            os.lseek(handle, 0, os.SEEK_SET)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB if locked else fcntl.LOCK_UN)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return True
    return True


def _holder(path: Path) -> str:
    """Who has the lock, in words, as its file says it."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        note = json.loads(path.read_text(encoding="utf-8"))
        return f"process {note['pid']} on {note['host']}, since {note['since']},"
    return "another process"
