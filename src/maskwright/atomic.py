"""Atomic writing of files and folders: written beside their place, then renamed, so that they are never incomplete."""

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeGuard

DEVICES = Path("/dev")
"""The folder of devices: no file in it is created or replaced."""

FULL = {
    errno.ENOSPC: "the disk is full",
    getattr(errno, "EDQUOT", errno.ENOSPC): "the space that you may use on the disk is used up",
    errno.EFBIG: "no file may become so large there",
}
"""Reasons for a lack of space, by error number. Only writing causes these; Python does not say for which file."""

WHY = {
    **FULL,
    errno.EACCES: "you have no permission to write there",
    errno.EPERM: "you have no permission to write there",
    errno.EROFS: "the disk can only be read",
}
"""Reasons why something cannot be written, by error number."""


@contextmanager
def replacing(path: str | os.PathLike[str], *, keep_part: bool = False, durable: bool = False) -> Iterator[Path]:
    """The path of a temporary file to write, which replaces `path` in one step when the block ends without error.

    Missing folders are made. If the block fails, `path` is unchanged and the temporary file is removed, or kept as
    `path`.part (keep_part). durable: once the block has ended, the new content survives a power failure.
    Raises FileExistsError if `path` is not a regular file, OSError, in words, if it cannot be written.
    """
    target = Path(path)
    require_file_or_nothing(target)
    _make(target.parent, target)
    part = target.with_name(f"{target.name}.part" if keep_part else f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        yield part
        _widen(part)
        if durable:
            _sync(part)
        os.replace(part, target)
        if durable and os.name == "posix":
            _sync(target.parent)
    except BaseException as error:
        if not keep_part:
            with suppress(OSError):  # must not hide the error that stopped the writing
                part.unlink()
        if _concerns(error, part):
            raise _told(error, target) from error
        raise


def require_file_or_nothing(path: str | os.PathLike[str]) -> None:
    """Raises FileExistsError if `path` is something that a file must not replace: a folder, a device or a pipe."""
    target = Path(path)
    if target.is_dir():
        raise FileExistsError(f"{target} is a folder, expected the name of a file. Name a file in it, or another one.")
    if (target.exists() and not target.is_file()) or Path(os.path.realpath(target.parent)) == DEVICES:
        raise FileExistsError(f"{target} is a device or a pipe, expected a file. Name a new file.")


@contextmanager
def new_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary folder to fill, which becomes `path` in one step when the block ends without error, else is removed.

    Raises FileExistsError if `path` is a file or a folder that is not empty, OSError, in words, if it cannot be
    written.
    """
    target = Path(os.path.abspath(path))
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise FileExistsError(f"{target} exists already. Nothing is overwritten: name a new folder, or remove it.")
    _make(target.parent, Path(path))
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        part.mkdir()
        yield part
        if target.exists():
            target.rmdir()
        os.replace(part, target)
    except BaseException as error:
        shutil.rmtree(part, ignore_errors=True)
        for cause in (error, error.__cause__):  # the cause: writers wrap it in errors of their own
            if _concerns(cause, part):
                raise _told(cause, Path(path)) from error
        raise


def reason(error: BaseException) -> str | None:
    """Why something could not be written, in words, from the error or its causes; None if unknown.

    torch wraps errors of the disk in errors of its own.
    """
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        if isinstance(cause, OSError) and cause.errno in WHY:
            return WHY[cause.errno]
        seen.append(cause)
        cause = cause.__cause__ or cause.__context__
    return None


def _make(folder: Path, target: Path) -> None:
    """Make the parent folder of `target` if it is missing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        message = f"{target} cannot be written: {error.filename} is no folder. Name a place in a folder."
        raise type(error)(message) from error
    except OSError as error:
        raise _told(error, target) from error


def _concerns(error: BaseException | None, part: Path) -> TypeGuard[OSError]:
    """Whether the error is about writing to `part`, or to a file in it."""
    if not isinstance(error, OSError) or error.errno is None:
        return False
    return error.errno in FULL or str(part) in str(error.filename or error)


def _told(error: OSError, target: Path) -> OSError:
    """The same error in words, with the name that the user gave and advice; type and number are kept."""
    advice = "Free some space, or name a place on another disk." if error.errno in FULL else "Name another place."
    why = WHY.get(error.errno or 0) or os.strerror(error.errno or 0)
    told = type(OSError(error.errno, ""))(f"{target} cannot be written: {why}. {advice}")
    told.errno = error.errno
    return told


def _widen(part: Path) -> None:
    """Set the permissions that the umask gives to new files: some writers create files that only the owner can read."""
    if os.name == "posix":
        mask = os.umask(0)
        os.umask(mask)
        part.chmod(0o666 & ~mask)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
