"""Finding images in folders, patterns, lists and behind URLs."""

import http.server
import io
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskwright.errors import ImageError
from maskwright.media import as_image, find_images, read_image, sources

RGB = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)


class TestFinding:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        for name in ("b.png", "a.JPG", "notes.md", ".hidden.png", "deep/c.tif", "odd[1].png"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(b"x")
        return tmp_path

    def test_everything(self, folder):
        names = lambda *sources: [p.relative_to(folder).as_posix() for p in find_images(sources)]  # noqa: E731
        assert names(folder) == ["a.JPG", "b.png", "odd[1].png"]
        assert names(folder / "notes.md") == ["notes.md"]
        assert names(folder / "odd[1].png") == ["odd[1].png"]
        assert names(f"{folder}/*.png") == ["b.png", "odd[1].png"]
        assert names(f"{folder}/**/*") == ["a.JPG", "b.png", "deep/c.tif", "odd[1].png"]
        assert names(folder / "b.png", folder, f"{folder}/deep/../b.png") == ["b.png", "a.JPG", "odd[1].png"]
        assert find_images(str(folder / "b.png")) == [folder / "b.png"]

    def test_lists_and_urls(self, folder):
        text = "\ufeff# mine\ndeep/c.tif\n\n  b.png  \nhttps://example.org/x.jpg\nnot there.png\n"
        (folder / "list.txt").write_text(text, encoding="utf-8")
        assert find_images(folder / "list.txt") == [
            folder / "deep/c.tif",
            folder / "b.png",
            "https://example.org/x.jpg",
            folder / "not there.png",
        ]
        url = "http://example.org/a.png"
        assert find_images([url, url]) == [url]

    def test_a_link_that_leads_nowhere_is_not_left_out_in_silence(self, tmp_path):
        Image.fromarray(RGB).save(tmp_path / "a.PNG")
        (tmp_path / "b.png").symlink_to(tmp_path / "gone.png")
        (tmp_path / "c.png").symlink_to(tmp_path / "a.PNG")  # the same image, found once
        (tmp_path / "d.png").mkdir()
        (tmp_path / "Thumbs.db").write_bytes(b"x")
        (tmp_path / "._a.PNG").write_bytes(b"x")
        assert [p.name for p in find_images(tmp_path)] == ["a.PNG", "b.png"]
        with pytest.raises(ImageError, match=r"b\.png: no such file"):
            read_image(tmp_path / "b.png")

    def test_images_of_other_kinds_are_named(self, tmp_path):
        Image.fromarray(RGB).save(tmp_path / "a.png")
        for name in ("b.ndpi", "c.DCM", "d.exr"):
            (tmp_path / name).write_bytes(b"x")
        notes = []
        find_images(tmp_path, notes)
        assert notes == [
            f"Left out of {tmp_path}: 3 images of kinds that are not read: b.ndpi, c.DCM, d.exr. Export them as JPEG "
            "or PNG."
        ]

    def test_nothing_found(self, folder):
        (folder / "void").mkdir()
        (folder / "void.txt").write_text("# nothing\n")
        (folder / "raw.txt").write_bytes(b"\xff\xfe\x00")
        for source in ("none.png", "void", "void.txt", "raw.txt", "*.md", "*.bmp"):
            with pytest.raises(ImageError, match=source.replace("*", r"\*")):
                find_images([folder / source])
        with pytest.raises(ImageError, match="empty"):
            find_images([])


class TestUrls:
    @pytest.fixture
    def server(self):
        stream = io.BytesIO()
        Image.fromarray(RGB).save(stream, "PNG")
        content = {"/a.png": stream.getvalue(), "/page": b"<html>"}

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                found = content.get(self.path)
                self.send_response(200 if found else 404)
                self.end_headers()
                self.wfile.write(found or b"")

            def log_message(self, *args: object) -> None:
                pass

        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
            thread = threading.Thread(target=running.serve_forever)
            thread.start()
            yield f"http://127.0.0.1:{running.server_port}"
            running.shutdown()
            thread.join()

    def test_fetched(self, server, monkeypatch):
        np.testing.assert_array_equal(read_image(f"{server}/a.png"), RGB)
        np.testing.assert_array_equal(as_image(f"{server}/a.png"), RGB)
        with pytest.raises(ImageError, match=r"/none\.png: .*404"):
            read_image(f"{server}/none.png")
        with pytest.raises(ImageError, match="/page: not an image"):
            read_image(f"{server}/page")
        monkeypatch.setattr(sources, "MAX_DOWNLOAD", 10)
        with pytest.raises(ImageError, match="larger than 10 bytes"):
            read_image(f"{server}/a.png")

    def test_no_server(self):
        with pytest.raises(ImageError, match="could not be fetched"):
            read_image("http://127.0.0.1:9/a.png")
