"""Files and folders appear whole or not at all: written beside their place, then renamed into it."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(path: str | os.PathLike[str], *, keep_part: bool = False, durable: bool = False) -> Iterator[Path]:
    """The path of a new file to write, which takes the place of `path` in one step when the block ends well.

    The folder is made if it is missing. Where the block fails, `path` is untouched and what was written is removed, or
    stays in `path`.part (keep_part). durable: the new content survives a power cut once the block has ended.
    Raises OSError where the folder or the file cannot be written.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part" if keep_part else f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        yield part
        _widen(part)
        if durable:
            _sync(part)
        os.replace(part, target)
        if durable and os.name == "posix":
            _sync(target.parent)
    except BaseException:
        if not keep_part:
            with suppress(FileNotFoundError, NotADirectoryError):
                part.unlink()
        raise


@contextmanager
def new_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A folder to fill, which becomes `path` in one step when the block ends well; otherwise nothing stays.

    Raises FileExistsError where `path` is a file or a folder that is not empty, OSError where it cannot be written.
    """
    target = Path(os.path.abspath(path))
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise FileExistsError(f"{target} exists already. Nothing is overwritten: name a new folder, or remove it.")
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    part.mkdir()
    try:
        yield part
        if target.exists():
            target.rmdir()
        os.replace(part, target)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


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
