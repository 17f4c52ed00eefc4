"""Files and folders appear whole or not at all: written beside their place, then renamed into it."""

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeGuard

DEVICES = Path("/dev")
"""Folder of the machine's devices: no file in it is made or replaced."""

FULL = {
    errno.ENOSPC: "the disk is full",
    getattr(errno, "EDQUOT", errno.ENOSPC): "the space that you may use on the disk is used up",
    errno.EFBIG: "no file may become so large there",
}
"""Why there is no room, by error number. Only writing fails so; Python does not say which file it was."""

WHY = {
    **FULL,
    errno.EACCES: "you have no permission to write there",
    errno.EPERM: "you have no permission to write there",
    errno.EROFS: "the disk can only be read",
}
"""Why something cannot be written, by error number."""


@contextmanager
def replacing(path: str | os.PathLike[str], *, keep_part: bool = False, durable: bool = False) -> Iterator[Path]:
    """The path of a new file to write, which takes the place of `path` in one step when the block ends well.

    The folder is made if it is missing. Where the block fails, `path` is untouched and what was written is removed, or
    stays in `path`.part (keep_part). durable: the new content survives a power cut once the block has ended.
    Raises FileExistsError where `path` is no regular file, OSError where the folder or the file cannot be written.
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
            with suppress(OSError):  # what stopped the writing is what is to be told
                part.unlink()
        if _concerns(error, part):
            raise _told(error, target) from error
        raise


def require_file_or_nothing(path: str | os.PathLike[str]) -> None:
    """Refuse what a new file must not replace: folders, devices, pipes. Raises FileExistsError."""
    target = Path(path)
    if target.is_dir():
        raise FileExistsError(f"{target} is a folder, expected the name of a file. Name a file in it, or another one.")
    if (target.exists() and not target.is_file()) or Path(os.path.realpath(target.parent)) == DEVICES:
        raise FileExistsError(f"{target} is a device or a pipe, expected a file. Name a new file.")


@contextmanager
def new_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A folder to fill, which becomes `path` in one step when the block ends well; otherwise nothing stays.

    Raises FileExistsError where `path` is a file or a folder that is not empty, OSError where it cannot be written.
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
        for cause in (error, error.__cause__):  # as where an image that is copied into it does not fit
            if _concerns(cause, part):
                raise _told(cause, Path(path)) from error
        raise


def reason(error: BaseException) -> str | None:
    """Why something could not be written, in words, from the error or one that led to it; None where it is not known.

    torch hides the error of the disk behind one of its own.
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
    """Make the folder that `target` is to lie in, if it is missing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        message = f"{target} cannot be written: {error.filename} is no folder. Name a place in a folder."
        raise type(error)(message) from error
    except OSError as error:
        raise _told(error, target) from error


def _concerns(error: BaseException | None, part: Path) -> TypeGuard[OSError]:
    """Whether the error is one of writing to `part`, or in it."""
    if not isinstance(error, OSError) or error.errno is None:
        return False
    return error.errno in FULL or str(part) in str(error.filename or error)


def _told(error: OSError, target: Path) -> OSError:
    """The error in words, with the name that the user gave and what to do; of the same type and number."""
    advice = "Free some space, or name a place on another disk." if error.errno in FULL else "Name another place."
    why = WHY.get(error.errno or 0) or os.strerror(error.errno or 0)
    told = type(OSError(error.errno, ""))(f"{target} cannot be written: {why}. {advice}")
    told.errno = error.errno
    return told


def _widen(part: Path) -> None:
    """The permissions that the user's umask gives to new files; some writers make files only their owner may read."""
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
