"""Images in and out, on files made here."""

import io
import os
import sys

import numpy as np
import pytest
from PIL import Image

from maskwright import media
from maskwright.errors import ConfigError, ImageError
from maskwright.media import as_image, read_image, write_image

rng = np.random.default_rng(0)
RGB = rng.integers(0, 256, (6, 9, 3), dtype=np.uint8)
SMOOTH = np.stack([*np.meshgrid(np.arange(90), np.arange(60)), np.full((60, 90), 77)], axis=-1).astype(np.uint8)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


class TestModes:
    @pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "PPM"])
    def test_lossless_formats_are_exact(self, kind, tmp_path):
        path = tmp_path / "image.any"  # the content decides, not the suffix
        path.write_bytes(encoded(Image.fromarray(RGB), kind))
        for source in (path, str(path), path.read_bytes()):
            image = read_image(source)
            assert image.dtype == np.uint8
            assert image.flags.c_contiguous
            assert image.flags.writeable
            np.testing.assert_array_equal(image, RGB)

    @pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
    def test_lossy_formats_are_close(self, kind):
        found = read_image(encoded(Image.fromarray(SMOOTH), kind, quality=95))
        assert np.abs(found.astype(int) - SMOOTH).mean() < 3

    def test_opaque_rgba_keeps_its_colours(self):
        rgba = np.dstack([RGB, np.full(RGB.shape[:2], 255, np.uint8)])
        np.testing.assert_array_equal(read_image(encoded(Image.fromarray(rgba))), RGB)

    def test_transparency_is_composed_over_white(self):
        alpha = rng.integers(0, 256, RGB.shape[:2], dtype=np.uint8)
        alpha[0, 0], alpha[0, 1] = 0, 255
        found = read_image(encoded(Image.fromarray(np.dstack([RGB, alpha])))).astype(float)
        share = alpha[..., None] / 255
        np.testing.assert_allclose(found, RGB * share + 255 * (1 - share), atol=1)
        assert found[0, 0].tolist() == [255, 255, 255]
        grey = read_image(encoded(Image.fromarray(np.dstack([RGB[..., 0], alpha]))))  # LA
        np.testing.assert_allclose(grey[..., 1], RGB[..., 0] * share[..., 0] + 255 * (1 - share[..., 0]), atol=1)

    def test_palette(self):
        image = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3), "L").convert("P")
        image.putpalette([v for i in range(6) for v in (40 * i, 255 - i, i)])
        expected = np.array([[40 * i, 255 - i, i] for i in range(6)], np.uint8).reshape(2, 3, 3)
        np.testing.assert_array_equal(read_image(encoded(image)), expected)
        expected[0, 1] = 255
        np.testing.assert_array_equal(read_image(encoded(image, transparency=1)), expected)
        half = read_image(encoded(image, transparency=bytes([255, 0, 255, 255, 255, 255])))
        np.testing.assert_array_equal(half, expected)

    @pytest.mark.parametrize("kind", ["PNG", "TIFF"])
    def test_sixteen_bit_grey(self, kind):
        deep = np.array([[0, 128, 129, 257], [4095, 32768, 65407, 65535]], np.uint16)
        found = read_image(encoded(Image.fromarray(deep), kind))
        np.testing.assert_array_equal(found[..., 0], np.floor(deep / 257 + 0.5))
        assert (found == found[..., :1]).all()
        assert read_image(encoded(Image.fromarray(deep), kind), bits=12)[1].tolist() == [[255] * 3] * 4

    def test_big_endian_and_32_bit_grey(self):
        deep = np.array([[0, 514, 65535]])
        found = read_image(encoded(Image.fromarray(deep.astype(">u2")), "TIFF"))
        assert found[0, :, 0].tolist() == [0, 2, 255]
        assert read_image(encoded(Image.fromarray(deep.astype(np.int32)), "TIFF"))[0, :, 1].tolist() == [0, 2, 255]
        with pytest.raises(ImageError, match=r"-1\.\.70000"):
            read_image(encoded(Image.fromarray(np.array([[-1, 70000]], np.int32)), "TIFF"))
        with pytest.raises(ImageError, match="floating-point"):
            read_image(encoded(Image.fromarray(np.ones((2, 2), np.float32)), "TIFF"))

    def test_one_bit_grey_and_cmyk(self):
        bits = rng.random((5, 7)) > 0.5
        np.testing.assert_array_equal(read_image(encoded(Image.fromarray(bits)))[..., 2], bits * 255)
        grey = read_image(encoded(Image.fromarray(SMOOTH[..., 0])))
        np.testing.assert_array_equal(grey, np.repeat(SMOOTH[..., :1], 3, axis=2))
        ink = Image.new("CMYK", (16, 8), (0, 255, 255, 0))  # full magenta and yellow: red; JPEG stores it inverted
        for kind in ("JPEG", "TIFF"):
            np.testing.assert_allclose(read_image(encoded(ink, kind)), np.full((8, 16, 3), (255, 0, 0)), atol=3)

    def test_first_frame_of_an_animation(self):
        frames = [Image.new("RGB", (5, 4), shade) for shade in ("red", "lime", "blue")]
        data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
        np.testing.assert_array_equal(read_image(data), np.full((4, 5, 3), (255, 0, 0)))

    @pytest.mark.parametrize("size", [(1, 1), (50, 20000), (20000, 50)])
    def test_odd_sizes(self, size):
        image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        np.testing.assert_array_equal(read_image(encoded(Image.fromarray(image), compress_level=1)), image)


class TestOrientation:
    # What a camera that noted each orientation stored, from the upright image.
    stored = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }

    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG", "WEBP"])
    def test_applied(self, orientation, kind):
        exif = Image.Exif()
        exif[0x0112] = orientation
        upright = SMOOTH if kind in ("JPEG", "WEBP") else RGB
        stored = Image.fromarray(np.ascontiguousarray(self.stored[orientation](upright)))
        found = read_image(encoded(stored, kind, exif=exif))
        assert found.shape == upright.shape
        if upright is RGB:
            np.testing.assert_array_equal(found, RGB)
        else:
            assert np.abs(found.astype(int) - upright).mean() < 5

    @pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning")  # Pillow's; the image is read all the same
    @pytest.mark.parametrize("block", [b"Exif\x00\x00garbage", b"Exif\x00\x00II*\x00\xff\xff\xff\xff"])
    def test_unreadable_blocks_and_values_mean_upright(self, block):
        assert read_image(encoded(Image.fromarray(SMOOTH), "JPEG", exif=block)).shape == SMOOTH.shape
        exif = Image.Exif()
        exif[0x0112] = 42
        assert read_image(encoded(Image.fromarray(SMOOTH), "JPEG", exif=exif)).shape == SMOOTH.shape


class TestRefusals:
    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF", "PPM"])
    @pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.9])
    def test_truncated(self, kind, share, tmp_path):
        path = tmp_path / "half.img"
        data = encoded(Image.fromarray(np.tile(RGB, (10, 10, 1))), kind)
        path.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(ImageError, match=r"half\.img: .*(damaged|begins)"):
            read_image(path)

    def test_not_an_image(self, tmp_path):
        (tmp_path / "empty.png").touch()
        (tmp_path / "text.png").write_text("hello, this is no image")
        (tmp_path / "run.eps").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
        for name, says in (
            ("empty.png", "empty"),
            ("text.png", "hello"),
            ("run.eps", "not an image"),
            ("none.png", "no such file"),
        ):
            with pytest.raises(ImageError, match=rf"{name}: .*{says}"):
                read_image(tmp_path / name)
        with pytest.raises(ImageError, match="folder"):
            read_image(tmp_path)
        with pytest.raises(ImageError, match="empty"):
            read_image(b"")
        with pytest.raises(ImageError, match="cannot be opened"):
            read_image("a\0b")
        with pytest.raises(ConfigError, match="bits"):
            read_image(b"", bits=17)

    @pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
    def test_unreadable(self, tmp_path):
        (tmp_path / "locked.png").write_bytes(b"x")
        (tmp_path / "locked.png").chmod(0)
        with pytest.raises(ImageError, match=r"locked\.png: .*opened"):
            read_image(tmp_path / "locked.png")

    def test_bombs_are_refused_by_their_header(self, monkeypatch):
        side = 16000  # 256 megapixels, 31 kB: beyond our limit and beyond Pillow's own
        data = encoded(Image.new("1", (side, side)))
        monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("it was decoded"))
        with pytest.raises(ImageError, match="16000x16000 = 256000000 pixels, the limit is 200000000"):
            read_image(data)

    def test_the_limit_can_be_moved(self, monkeypatch):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # Pillow's limit must not get in the way
        data = encoded(Image.fromarray(RGB))
        assert read_image(data).shape == RGB.shape
        assert read_image(data, max_pixels=None).shape == RGB.shape
        assert read_image(data, max_pixels=54).shape == RGB.shape
        with pytest.raises(ImageError, match="6x9 = 54 pixels, the limit is 53"):
            read_image(data, max_pixels=53)
        assert Image.MAX_IMAGE_PIXELS == 10


class TestArrays:
    def test_accepted(self):
        assert as_image(RGB) is RGB
        grey = RGB[..., 0]
        for array in (grey, grey[..., None]):
            np.testing.assert_array_equal(as_image(array), np.repeat(grey[..., None], 3, axis=2))
        rgba = np.dstack([RGB, np.full(RGB.shape[:2], 255, np.uint8)])
        np.testing.assert_array_equal(as_image(rgba), RGB)
        np.testing.assert_array_equal(as_image(Image.fromarray(RGB)), RGB)
        np.testing.assert_array_equal(as_image(encoded(Image.fromarray(RGB))), RGB)
        flipped = as_image(RGB[:, ::-1])
        assert flipped.flags.c_contiguous
        np.testing.assert_array_equal(flipped, RGB[:, ::-1])

    def test_a_pil_image_is_taken_as_it_is(self, tmp_path):
        exif = Image.Exif()
        exif[0x0112] = 6
        data = encoded(Image.fromarray(RGB), exif=exif)
        np.testing.assert_array_equal(as_image(Image.open(io.BytesIO(data))), RGB)
        with pytest.raises(ImageError, match="damaged"):
            as_image(Image.open(io.BytesIO(data[:-60])))

    @pytest.mark.parametrize(
        ("given", "says"),
        [
            (RGB / 255.0, r"float64.*\* 255"),
            (RGB.astype(np.uint16), "uint16"),
            (RGB > 9, "bool"),
            (RGB.transpose(2, 0, 1), "channels come first"),
            (RGB[..., :2], r"got \(6, 9, 2\)"),
            (RGB[:0], "at least one pixel"),
            (RGB[0, 0], r"got \(3,\)"),
            (RGB[None], r"got \(1, 6, 9, 3\)"),
            ([[1, 2]], "builtins.list"),
            (None, "NoneType"),
        ],
    )
    def test_refused(self, given, says):
        with pytest.raises(ImageError, match=says):
            as_image(given)


class TestWriting:
    @pytest.mark.parametrize("name", ["a.png", "a.BMP", "a.tif", "a.tiff"])
    def test_round_trip(self, name, tmp_path):
        write_image(tmp_path / name, RGB)
        np.testing.assert_array_equal(read_image(tmp_path / name), RGB)
        write_image(tmp_path / name, RGB[..., 0])
        np.testing.assert_array_equal(read_image(tmp_path / name)[..., 1], RGB[..., 0])
        assert os.listdir(tmp_path) == [name]

    def test_alpha_depth_and_lossy(self, tmp_path):
        rgba = np.dstack([RGB, RGB[..., 0]])
        write_image(tmp_path / "a.png", rgba)
        np.testing.assert_array_equal(np.array(Image.open(tmp_path / "a.png")), rgba)
        deep = (np.arange(12, dtype=np.uint16) * 5000).reshape(3, 4)
        for name in ("d.png", "d.tif"):
            write_image(tmp_path / name, deep)
            np.testing.assert_array_equal(np.array(Image.open(tmp_path / name)), deep)
        for name in ("l.jpg", "l.jpeg", "l.webp"):
            write_image(str(tmp_path / name), SMOOTH)
            assert np.abs(read_image(tmp_path / name).astype(int) - SMOOTH).mean() < 3

    @pytest.mark.parametrize(
        ("name", "array", "says"),
        [
            ("a.xyz", RGB, r"'\.xyz'.*\.png"),
            ("a", RGB, "suffix ''"),
            ("a.jpg", np.dstack([RGB, RGB[..., 0]]), r"uint8 \(6, 9, 4\)"),
            ("a.png", RGB / 255, "float64"),
            ("a.jpg", RGB.astype(np.uint16)[..., 0], "uint16"),
            ("a.png", RGB[:0], r"\(0, 9, 3\)"),
            ("a.webp", np.zeros((20000, 5, 3), np.uint8), "cannot be written"),
        ],
    )
    def test_refused_and_nothing_left(self, name, array, says, tmp_path):
        with pytest.raises(ImageError, match=f"a.*: .*{says}"):
            write_image(tmp_path / name, array)
        assert os.listdir(tmp_path) == []

    def test_missing_folders_are_made_and_a_file_in_their_place_is_an_error(self, tmp_path):
        write_image(tmp_path / "new" / "a.png", RGB)
        with pytest.raises(ImageError, match="cannot be written"):
            write_image(tmp_path / "new" / "a.png" / "b.png", RGB)

    def test_a_failure_keeps_the_old_file(self, tmp_path, monkeypatch):
        write_image(tmp_path / "a.png", RGB)

        def fail(self, file, *args, **options):
            file.write_bytes(b"half")
            raise OSError("disk full")

        def fill(self, file, *args, **options):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Image.Image, "save", fail)
        with pytest.raises(ImageError, match="disk full"):
            write_image(tmp_path / "a.png", RGB[::-1])
        monkeypatch.setattr(Image.Image, "save", fill)
        with pytest.raises(ImageError, match=r"^\S*a\.png cannot be written: the disk is full\. Free some space"):
            write_image(tmp_path / "a.png", RGB[::-1])
        monkeypatch.undo()
        np.testing.assert_array_equal(read_image(tmp_path / "a.png"), RGB)
        assert os.listdir(tmp_path) == ["a.png"]


def test_reading_changes_nothing_in_the_process():
    before = (Image.MAX_IMAGE_PIXELS, len(sys.modules["warnings"].filters))
    read_image(encoded(Image.fromarray(RGB)))
    assert (Image.MAX_IMAGE_PIXELS, len(sys.modules["warnings"].filters)) == before


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_in_the_header_is_that_of_the_image_read(tmp_path, orientation):
    path = tmp_path / "a.jpg"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (30, 20)).save(path, exif=exif)
    assert media.read_size(path) == read_image(path).shape[:2]
    assert media.read_size(path.read_bytes()) == media.read_values(path).shape


def test_the_size_needs_no_more_than_the_header(tmp_path):
    path = tmp_path / "a.png"
    Image.effect_noise((300, 200), 50).save(path)
    path.write_bytes(path.read_bytes()[:100])
    assert media.read_size(path) == (200, 300)
    for bad in (b"", b"GIF89a", b"nothing of an image"):
        with pytest.raises(ImageError):
            media.read_size(bad)


def test_values_are_read_unscaled(tmp_path):
    values = np.arange(12).reshape(3, 4) * 5000
    for name, kind in (("a.png", np.uint16), ("b.tif", np.int32), ("c.tif", np.float32)):
        Image.fromarray(values.astype(kind)).save(tmp_path / name)
        np.testing.assert_array_equal(media.read_values(tmp_path / name), values)
    Image.fromarray(np.eye(4) > 0).save(tmp_path / "d.png")
    np.testing.assert_array_equal(media.read_values(tmp_path / "d.png"), np.eye(4))
    with pytest.raises(ImageError, match=r"d\.png: the image has 4x4 = 16 pixels, the limit is 15"):
        media.read_values(tmp_path / "d.png", max_pixels=15)
    Image.new("RGBA", (4, 3), (9, 9, 9, 0)).save(tmp_path / "e.png")
    np.testing.assert_array_equal(media.read_values(tmp_path / "e.png"), np.full((3, 4), 9))
