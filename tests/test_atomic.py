"""Files appear whole or not at all."""

import os

import pytest

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
