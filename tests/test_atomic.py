"""Files appear whole or not at all."""

import errno
import os
from pathlib import Path

import pytest

from maskwright import atomic
from maskwright.atomic import new_folder, replacing


def test_replaces_at_the_end_with_the_users_permissions(tmp_path):
    target = tmp_path / "new" / "a.txt"
    for text in ("one", "two"):
        with replacing(target, durable=True) as part:
            part.write_text(text)
            os.chmod(part, 0o600)
            assert not target.exists() or target.read_text() == "one"
        assert target.read_text() == text
    mask = os.umask(0)
    os.umask(mask)
    assert target.stat().st_mode & 0o777 == 0o666 & ~mask
    assert [p.name for p in target.parent.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("keep", [False, True])
def test_failure_leaves_the_old_file(tmp_path, keep):
    target = tmp_path / "a.txt"
    target.write_text("old")

    def fail() -> None:
        with replacing(target, keep_part=keep) as part:
            part.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert target.read_text() == "old"
    left = {p.name: p.read_text() for p in tmp_path.iterdir() if p != target}
    assert left == ({"a.txt.part": "half"} if keep else {})


@pytest.mark.parametrize("there", [False, True])
def test_a_new_folder_appears_whole(tmp_path, there):
    target = tmp_path / "deep" / "set"
    if there:
        target.mkdir(parents=True)  # an empty one may be there
    with new_folder(target) as part:
        (part / "a.txt").write_text("a")
        assert not (target / "a.txt").exists()
    assert [p.name for p in target.iterdir()] == ["a.txt"]
    assert [p.name for p in target.parent.iterdir()] == ["set"]


def test_a_failed_folder_leaves_nothing_and_a_taken_one_is_kept(tmp_path):
    def fail() -> None:
        with new_folder(tmp_path / "set") as part:
            (part / "a.txt").write_text("a")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "set").write_text("a file")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "b.txt").write_text("b")
    for name in ("set", "full"):
        with pytest.raises(FileExistsError, match=f"{name} exists already"), new_folder(tmp_path / name):
            pass
    assert (tmp_path / "full" / "b.txt").read_text() == "b"


@pytest.mark.parametrize("kind", ["folder", "pipe", "device"])
def test_only_a_file_is_replaced(tmp_path, monkeypatch, kind):
    target = tmp_path / "dev" / "full"
    target.parent.mkdir()
    if kind == "folder":
        target.mkdir()
    elif kind == "pipe":
        os.mkfifo(target)
    else:  # as /dev/stdout is, where the output goes to a file
        monkeypatch.setattr(atomic, "DEVICES", target.parent)
        (tmp_path / "a.txt").write_text("old")
        target.symlink_to(tmp_path / "a.txt")
    before = os.lstat(target)
    with pytest.raises(FileExistsError, match=r"dev/full is a (folder|device or a pipe), expected"), replacing(target):
        pytest.fail("nothing is written")
    assert os.lstat(target) == before
    assert [p.name for p in target.parent.iterdir()] == ["full"]


@pytest.mark.parametrize(
    ("number", "kind", "why"),
    [
        (errno.ENOSPC, OSError, r"the disk is full\. Free some space"),
        (errno.EFBIG, OSError, r"no file may become so large there\. Free some space"),
        (errno.EACCES, PermissionError, r"you have no permission to write there\. Name another place"),
        (errno.EROFS, OSError, r"the disk can only be read\. Name another place"),
        (errno.ENAMETOOLONG, OSError, r"File name too long\. Name another place"),
    ],
)
def test_write_errors_give_the_reason_and_the_users_path(tmp_path, number, kind, why):
    place = tmp_path / "set"

    def fail_in_a_file() -> None:
        with replacing(place) as part:
            part.write_text("half")
            raise OSError(number, os.strerror(number), *([] if number in atomic.FULL else [str(part)]))

    def fail_in_a_folder() -> None:
        with new_folder(place) as folder, replacing(folder / "a.txt") as part:
            raise OSError(number, os.strerror(number), *([] if number in atomic.FULL else [str(part)]))

    for fail in (fail_in_a_file, fail_in_a_folder):
        with pytest.raises(kind, match=rf"^\S*/set cannot be written: {why}") as caught:
            fail()
        assert caught.value.errno == number
        assert ".part" not in str(caught.value)
        assert atomic.reason(caught.value) == atomic.WHY.get(number)
        assert not list(tmp_path.iterdir())


def test_a_failed_copy_is_reported_with_the_folders_name(tmp_path):
    def fail(number: int, name: str) -> None:
        with new_folder(tmp_path / "set") as folder:
            try:
                raise OSError(number, os.strerror(number), name or str(folder / "a.png"))
            except OSError as error:
                raise ValueError(f"cannot be copied to {folder}") from error

    for number, name, why in (
        (errno.ENOSPC, "a.png", "the disk is full"),
        (errno.EACCES, "", "you have no permission to write there"),
    ):
        with pytest.raises(OSError, match=rf"^\S*/set cannot be written: {why}"):
            fail(number, name)
    with pytest.raises(ValueError, match="cannot be copied"):
        fail(errno.EACCES, "a.png")  # of the image that was to be read


def test_errors_of_other_files_are_not_changed(tmp_path):
    for writing in (replacing, new_folder):
        with pytest.raises(FileNotFoundError, match=r"\[Errno 2\].*gone\.txt"), writing(tmp_path / "a"):
            (tmp_path / "gone.txt").read_text()


def test_a_folder_that_cannot_be_made_is_an_error_with_the_reason(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("a file")
    for writing in (replacing, new_folder):
        for place in (tmp_path / "a.txt" / "b", tmp_path / "a.txt" / "b" / "c"):
            with pytest.raises(OSError, match=r"b(/c)? cannot be written: \S*a\.txt\S* is no folder"), writing(place):
                pytest.fail("nothing is written")

    def refuse(path, *_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    for writing in (replacing, new_folder):
        with pytest.raises(PermissionError, match=r"^\S*new/a cannot be written: you have no permission"):
            writing(tmp_path / "new" / "a").__enter__()


def test_the_reason_is_found_behind_another_error():
    def fail() -> None:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        finally:
            raise RuntimeError("unexpected pos 64 vs 0")

    with pytest.raises(RuntimeError) as caught:
        fail()
    assert atomic.reason(caught.value) == "the disk is full"
    assert atomic.reason(RuntimeError("unexpected pos 64 vs 0")) is None
