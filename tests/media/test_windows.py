"""Windows of an image file are the crops of the whole, however the file is stored."""

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, TiffImagePlugin

from maskwright import media
from maskwright.errors import ImageError
from maskwright.media.intensity import PERCENTILES
from maskwright.types import FULL, Intensity

tifffile = pytest.importorskip("tifffile", reason="it comes with scikit-image")

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (150, 210, 3), np.uint8)
SMOOTH = np.asarray(Image.fromarray(RGB).resize((21, 15)).resize((210, 150), Image.Resampling.BICUBIC))
DEEP = RNG.integers(100, 40000, (150, 210), np.uint16)
WINDOWS = [(0, 0, (150, 210)), (13, 57, (50, 90)), (149, 209, (1, 1)), (60, 90, (64, 96))]


def windows(path: Path, intensity: Intensity = FULL, **options: Any) -> media.Windows:
    found = media.windows_of(path, lambda size: True, intensity=intensity, **options)
    assert found is not None
    return found


def check(path: Path, intensity: Intensity = FULL) -> None:
    whole = media.read_image(path, intensity=intensity)
    with windows(path, intensity) as image:
        assert image.size == whole.shape[:2]
        height, width = image.size
        for top, left, (h, w) in [*WINDOWS[1:], (0, 0, (height, width))]:
            top, left = min(top, height - h), min(left, width - w)
            assert np.array_equal(image.read(top, left, (h, w)), whole[top : top + h, left : left + w])
        assert np.array_equal(image.overview, whole)  # small enough not to be reduced


LAYOUTS: dict[str, dict[str, Any]] = {
    "one strip": {},
    "strips": {"rowsperstrip": 37},
    "tiles": {"tile": (48, 64)},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("big", [False, True])
def test_numbers_of_any_kind(tmp_path: Path, layout: str, compression: str | None, order: str, big: bool) -> None:
    path, how = tmp_path / "a.tif", {"compression": compression, "byteorder": order, "bigtiff": big, **LAYOUTS[layout]}
    for values, kind in ((RGB, "rgb"), (DEEP, "minisblack"), (DEEP / np.float32(7), "miniswhite")):
        tifffile.imwrite(path, values, photometric=kind, **how)
        check(path, PERCENTILES)
    tifffile.imwrite(path, RGB.transpose(2, 0, 1), photometric="rgb", planarconfig="separate", **how)
    check(path)


@pytest.mark.parametrize("compression", ["jpeg", "tiff_lzw", "packbits", "tiff_deflate", None])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "CMYK", "1", "YCbCr"])
def test_what_pillow_decodes(tmp_path: Path, mode: str, compression: str | None) -> None:
    if compression == "jpeg" and mode in ("P", "1"):
        pytest.skip("JPEG has no such colours")
    rows = {} if compression == "jpeg" else {"tiffinfo": {278: 32}}
    Image.fromarray(SMOOTH).convert(mode).save(tmp_path / "a.tif", compression=compression, **rows)
    check(tmp_path / "a.tif")


@pytest.mark.parametrize("turn", range(1, 9))
def test_every_orientation(tmp_path: Path, turn: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.fromarray(RGB).save(tmp_path / "a.tif", compression="tiff_lzw", exif=exif, tiffinfo={278: 32})
    check(tmp_path / "a.tif")


@given(top=st.integers(0, 149), left=st.integers(0, 209), height=st.integers(1, 150), width=st.integers(1, 210))
def test_any_window(tmp_path_factory: pytest.TempPathFactory, top: int, left: int, height: int, width: int) -> None:
    path = tmp_path_factory.getbasetemp() / "any.tif"
    if not path.exists():
        tifffile.imwrite(path, RGB, photometric="rgb", compression="zlib", tile=(32, 16))
    height, width = min(height, 150 - top), min(width, 210 - left)
    with windows(path) as image:
        assert np.array_equal(image.read(top, left, (height, width)), RGB[top : top + height, left : left + width])


def jpeg_tiles(path: Path) -> None:
    """Two tiles that share their tables, as slide scanners write them."""
    blocks, shared = [], dict[int, Any]()
    for part in (SMOOTH[:64, :64], SMOOTH[:64, 64:128]):
        stream = io.BytesIO()
        Image.fromarray(part).save(stream, "TIFF", compression="jpeg", quality=95)
        with Image.open(stream) as image:
            assert isinstance(image, TiffImagePlugin.TiffImageFile)
            tags = image.tag_v2
            shared = {tag: tags[tag] for tag in (258, 259, 262, 277, 347)}
            stream.seek(tags[273][0])
            blocks.append(stream.read(tags[279][0]))
    path.write_bytes(tiff_of({256: 128, 257: 64, 322: 64, 323: 64, **shared}, blocks))


def tiff_of(tags: dict[int, Any], blocks: list[bytes]) -> bytes:
    """A classic TIFF of these tags and tiles."""
    rows, extra = [], b""
    count = len(tags) + 2
    begin = 8 + 2 + 12 * count + 4

    def row(tag: int, kind: int, number: int, data: bytes) -> None:
        nonlocal extra
        if len(data) > 4:
            rows.append((tag, struct.pack("<HHLL", tag, kind, number, begin + len(extra))))
            extra += data + bytes(len(data) % 2)
        else:
            rows.append((tag, struct.pack("<HHL4s", tag, kind, number, data.ljust(4, b"\0"))))

    for tag, value in tags.items():
        if isinstance(value, bytes):
            row(tag, 7, len(value), value)
        else:
            numbers = value if isinstance(value, tuple) else (value,)
            row(tag, 3, len(numbers), struct.pack(f"<{len(numbers)}H", *numbers))
    row(325, 4, len(blocks), struct.pack(f"<{len(blocks)}L", *map(len, blocks)))
    place = begin + len(extra) + 4 * len(blocks)
    places = [place + sum(map(len, blocks[:k])) for k in range(len(blocks))]
    row(324, 4, len(blocks), struct.pack(f"<{len(blocks)}L", *places))
    table = b"".join(data for _, data in sorted(rows))
    return struct.pack("<2sHLH", b"II", 42, 8, count) + table + bytes(4) + extra + b"".join(blocks)


def test_tiles_of_jpeg_that_share_their_tables(tmp_path: Path) -> None:
    jpeg_tiles(tmp_path / "a.svs")
    whole = media.read_image(tmp_path / "a.svs")
    assert np.abs(whole.astype(int) - SMOOTH[:64, :128]).max() < 25
    with windows(tmp_path / "a.svs") as image:
        assert np.array_equal(image.read(5, 50, (40, 30)), whole[5:45, 50:80])
        assert np.array_equal(image.read(0, 70, (64, 58)), whole[:, 70:])


# ---- pyramids and percentiles --------------------------------------------------------------------------------------


@pytest.mark.parametrize("inside", [True, False], ids=["SubIFDs", "pages"])
def test_percentiles_of_a_pyramid_are_those_of_a_smaller_copy(
    tmp_path: Path, inside: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maskwright.media.windows.SAMPLE", 150 * 210 // 3)
    copies = (DEEP[::2, ::2] // 2, DEEP[::4, ::4] // 3)  # darker, so that it shows which one was looked at
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(DEEP, tile=(64, 64), subifds=2 if inside else 0, photometric="minisblack")
        for copy in copies:
            file.write(copy, tile=(64, 64), subfiletype=1, photometric="minisblack")
    told = media.Readings()
    assert media.page_count(tmp_path / "a.tif") == 1
    with windows(tmp_path / "a.tif", PERCENTILES, told=told) as image:
        low, high = np.percentile(copies[0], [1, 99.8])
        wanted = np.clip((DEEP[40:90, 30:99] - low) / (high - low), 0, 1) * 255 + 0.5
        assert np.array_equal(image.read(40, 30, (50, 69))[..., 0], wanted.astype(np.uint8))
    (deep, reduced, *_) = told.notes(PERCENTILES)
    assert deep.startswith("1 image with more than 8 bits (uint16)")
    assert reduced == f"The percentiles of 1 image read in windows are of a reduced copy: {tmp_path / 'a.tif'}."


def test_percentiles_without_a_pyramid_are_of_every_kth_pixel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maskwright.media.windows.SAMPLE", 2000)
    tifffile.imwrite(tmp_path / "a.tif", DEEP, tile=(64, 64), photometric="minisblack")
    with windows(tmp_path / "a.tif", PERCENTILES) as image:
        low, high = np.percentile(DEEP[::3, ::3], [1, 99.8])
        wanted = np.clip((DEEP - low) / (high - low), 0, 1) * 255 + 0.5
        assert np.array_equal(image.read(0, 0, (150, 210))[..., 0], wanted.astype(np.uint8))


def test_the_pages_of_a_slide_are_one_image(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.svs") as file:
        for k, side in enumerate((128, 40, 64, 50)):  # as scanners have them: image, thumbnail, level, label
            tile = {} if k in (1, 3) else {"tile": (32, 32)}
            file.write(RGB[:side, :side], photometric="rgb", description="Aperio Image Library", metadata=None, **tile)
    assert media.page_count(tmp_path / "a.svs") == 1
    assert media.read_size(tmp_path / "a.svs") == (128, 128)
    assert media.find_images(tmp_path) == [tmp_path / "a.svs"]
    check_slide = windows(tmp_path / "a.svs")
    with check_slide:
        assert np.array_equal(check_slide.read(9, 70, (30, 58)), RGB[9:39, 70:128])


def test_the_overview_is_reduced_by_a_whole_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maskwright.media.windows.OVERVIEW", 80)
    tifffile.imwrite(tmp_path / "a.tif", RGB, photometric="rgb", tile=(32, 32))
    with windows(tmp_path / "a.tif") as image:
        for top in range(0, 150, 50):
            for left in range(0, 210, 70):
                image.read(max(0, top - 7), max(0, left - 5), (50 + min(7, top), 70 + min(5, left)))
        assert image.reduction == 3
        assert image.overview.shape == (50, 70, 3)
        mean = RGB.reshape(50, 3, 70, 3, 3).mean(axis=(1, 3))
        inner = np.abs(image.overview - mean)[:16, :22]
        assert inner.max() <= 1


# ---- what is not read in windows -----------------------------------------------------------------------------------


def test_other_files_are_decoded_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.png")
    assert media.windows_of(tmp_path / "a.png", lambda size: True) is None
    assert media.windows_of(RGB, lambda size: True) is None
    assert media.windows_of("https://example.org/a.tif", lambda size: True) is None
    Image.fromarray(RGB).save(tmp_path / "a.tif", compression="tiff_lzw", tiffinfo={278: 150})
    monkeypatch.setattr("maskwright.media.blocks.MOST", 1000)
    assert media.windows_of(tmp_path / "a.tif", lambda size: True) is None
    seen: list[tuple[int, int]] = []
    assert media.windows_of(tmp_path / "a.tif", lambda size: bool(seen.append(size))) is None
    assert seen == [(150, 210)]


def test_damage_and_windows_outside_are_errors(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", RGB, photometric="rgb", compression="zlib", tile=(32, 32))
    content = bytearray((tmp_path / "a.tif").read_bytes())
    with windows(tmp_path / "a.tif") as image, pytest.raises(ImageError, match=r"leaves the image of 150x210"):
        image.read(100, 200, (20, 20))
    content[-3000:] = bytes(3000)
    (tmp_path / "a.tif").write_bytes(content)
    with windows(tmp_path / "a.tif") as image:
        assert np.array_equal(image.read(0, 0, (32, 32)), RGB[:32, :32])
        with pytest.raises(ImageError, match=r"a\.tif: the TIFF image is damaged"):
            image.read(100, 150, (50, 60))


def test_a_header_of_more_tiles_than_there_are_is_refused(tmp_path: Path) -> None:
    tags = {256: 65535, 257: 65535, 258: 8, 259: 1, 262: 1, 277: 1, 322: 16, 323: 16}
    (tmp_path / "a.tif").write_bytes(tiff_of(tags, [bytes(256)]))
    with pytest.raises(ImageError, match=r"a\.tif: .*\(it has 1 of 16777216 strips or tiles"):
        media.windows_of(tmp_path / "a.tif", lambda size: True)
