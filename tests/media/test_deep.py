"""Images with more than 8 bits, and stacks: whatever their numbers, byte order and layout."""

import io
import itertools
import re
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from maskwright import media
from maskwright.errors import ConfigError, ImageError
from maskwright.media import PERCENTILES, Readings, as_image, read_image
from maskwright.types import Intensity

tifffile = pytest.importorskip("tifffile", reason="it comes with scikit-image")

rng = np.random.default_rng(0)
RAW = rng.integers(32978, 36864, (20, 30), dtype=np.uint16)
STRETCHED = np.clip((RAW - np.percentile(RAW, 1)) / (np.percentile(RAW, 99.8) - np.percentile(RAW, 1)), 0, 1)
STRETCHED = (STRETCHED * 255 + 0.5).astype(np.uint8)


def png(values: np.ndarray, colour: int) -> bytes:
    """A PNG of 16 bits; colour: 0 grey, 2 RGB, 4 grey with opacity, 6 RGBA."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">L", len(content)) + name + content + struct.pack(">L", zlib.crc32(name + content))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = struct.pack(">LLBBBBB", values.shape[1], values.shape[0], 16, colour, 0, 0, 0)
    chunks = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def tiff(values: np.ndarray, **options: object) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, values, **options)
    return stream.getvalue()


KINDS = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("layout", [{}, {"tile": (16, 16)}, {"bigtiff": True}, {"rowsperstrip": 3}])
def test_numbers_of_all_kinds_are_read_as_they_are(kind, order, layout):
    """A label image that an array of NumPy's default type became is no damaged file."""
    values = rng.integers(0, 100, (20, 30)).astype(kind)
    data = tiff(values, byteorder=order, photometric="minisblack", **layout)
    assert media.read_size(data) == (20, 30)
    np.testing.assert_array_equal(media.read_values(data), values)
    if kind != "u1":
        np.testing.assert_array_equal(read_image(data, intensity="values:0..255")[..., 0], values)


@pytest.mark.parametrize("kind", ["u2", "i4", "f4"])
@pytest.mark.parametrize("predictor", [False, True])
def test_deflated_numbers(kind, predictor):
    if predictor and kind[0] == "f":
        pytest.skip("its writer needs a package more")
    values = rng.integers(0, 100, (20, 30, 3)).astype(kind)
    data = tiff(values, photometric="rgb", compression="zlib", predictor=predictor and 2)
    with media.opened(data) as file:
        np.testing.assert_array_equal(file.decode().values, values)


@pytest.mark.parametrize("kind", ["tiff_lzw", "packbits", "tiff_adobe_deflate"])
def test_compressed_by_libtiff(kind):
    stream = io.BytesIO()
    Image.fromarray(RAW).save(stream, "TIFF", compression=kind)
    with media.opened(stream.getvalue()) as file:
        np.testing.assert_array_equal(file.decode().values, RAW)


def test_channels_apart_and_with_opacity():
    values = rng.integers(0, 65536, (20, 30, 4)).astype(np.uint16)
    planar = tiff(values[..., :3].transpose(2, 0, 1), photometric="rgb", planarconfig="separate")
    with media.opened(planar) as file:
        np.testing.assert_array_equal(file.decode().values, values[..., :3])
    rgba = read_image(tiff(values, photometric="rgb", extrasamples=["unassalpha"]))
    share = values[..., 3:] / 65535
    np.testing.assert_allclose(rgba, values[..., :3] / 257 * share + 255 * (1 - share), atol=1)
    with pytest.raises(ImageError, match="found 2 channels without a colour"):
        read_image(tiff(values[..., :2], photometric="minisblack", planarconfig="contig"))


@pytest.mark.parametrize(("colour", "channels"), [(0, 1), (4, 2), (2, 3), (6, 4)])
def test_a_png_of_16_bits_has_all_of_them(colour, channels):
    values = rng.integers(0, 65536, (5, 7, channels)).astype(np.uint16)
    with media.opened(png(values, colour)) as file:
        assert file.deep
        np.testing.assert_array_equal(file.decode().values.reshape(values.shape), values)


@pytest.mark.parametrize("kind", ["u1", "u2", "f4"])
def test_where_the_lowest_value_is_white(kind):
    values = np.array([[0, 255, 51]]).astype(kind)
    found = read_image(tiff(values, photometric="miniswhite"), intensity="values:0..255")
    assert found[0, :, 0].tolist() == [255, 0, 204]


# ---- intensities ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["u2", "i4", "f4", "f8"])
def test_percentiles_show_what_the_full_range_hides(kind):
    data = tiff(RAW.astype(kind))
    np.testing.assert_array_equal(read_image(data, intensity="percentiles")[..., 0], STRETCHED)
    np.testing.assert_array_equal(as_image(RAW.astype(kind), intensity=PERCENTILES)[..., 0], STRETCHED)
    if kind == "u2":
        np.testing.assert_array_equal(read_image(png(RAW, 0), intensity=PERCENTILES)[..., 0], STRETCHED)
        assert np.ptp(read_image(data)) <= 16


def test_eight_bits_stay_as_they_are_whatever_the_intensity():
    image = rng.integers(90, 120, (9, 8, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    for text in ("full", "bits:12", "values:3..9", "percentiles", "percentiles:5..95"):
        told = Readings()
        np.testing.assert_array_equal(read_image(stream.getvalue(), intensity=text, told=told), image)
        assert as_image(image, intensity=Intensity.parse(text)) is image
        assert told.notes(Intensity.parse(text)) == ()


def test_what_is_not_finite_becomes_black_or_white_and_is_told():
    values = np.linspace(5, 7, 600, dtype=np.float32).reshape(20, 30)
    values[0, :3] = np.nan, np.inf, -np.inf
    told = Readings()
    found = read_image(tiff(values), intensity="values:5..7", told=told)
    assert found[0, :3, 0].tolist() == [0, 255, 0]
    assert found[19, 29].tolist() == [255] * 3
    notes = " ".join(told.notes(Intensity.parse("values:5..7")))
    assert "1 image with more than 8 bits (float32) became 0..255 by the values 5 to 7." in notes
    assert "1 image with NaN or infinite values" in notes
    with pytest.raises(ImageError, match="none of its values is a finite number"):
        read_image(tiff(np.full((4, 5), np.nan, np.float32)), intensity="percentiles")


def test_a_few_bright_pixels_are_not_lost():
    values = np.full((100, 100), 700, np.uint16)
    values[50, 50] = 900
    found = read_image(png(values, 0), intensity="percentiles")
    assert found.max() == 255
    assert found.min() == 0
    assert (read_image(png(np.full((4, 4), 700, np.uint16), 0), intensity="percentiles") == 0).all()


def test_numbers_without_a_known_range_need_a_choice():
    for values in (RAW / 65535, RAW.astype(np.float32), RAW.astype(np.int16), RAW.astype(np.int32) * 9):
        with pytest.raises(ImageError, match="no known range of brightness; its values are") as error:
            read_image(tiff(values))
        assert error.value.options == ("intensity",)


def test_little_use_of_the_range_is_told():
    told = Readings()
    read_image(png(RAW, 0), told=told)
    (note,) = told.notes(Intensity())
    assert "1 image with more than 8 bits (uint16) became 0..255 by the full range of their bits." in note
    assert "1 image with values in less than a quarter of it" in note


def test_intensities_as_text():
    for text in ("full", "values:0..4095", "values:-1000..3000.5", "percentiles:1..99.8"):
        assert str(Intensity.parse(text)) == text
    assert Intensity.parse("bits:12") == Intensity.of_bits(12) == Intensity("values", 0, 4095)
    assert Intensity.parse("percentiles") == Intensity("percentiles", 1, 99.8)
    for wrong in ("", "bits", "bits:17", "bits:-1", "values", "values:9..3", "percentiles:0..101", "full:3", "x" * 999):
        with pytest.raises(ConfigError) as error:
            Intensity.parse(wrong)
        assert len(str(error.value)) < 250
    with pytest.raises(ConfigError, match="one of the two"):
        media.chosen_intensity("full", 12)


# ---- stacks ---------------------------------------------------------------------------------------------------------


def frames() -> list[Image.Image]:
    return [Image.fromarray(np.full((8, 9, 3), 60 * k, np.uint8)) for k in range(4)]


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "PNG", "WEBP"])
def test_pages_are_images(kind, tmp_path):
    path = tmp_path / "stack"
    first, *others = frames()
    first.save(path, kind, save_all=True, append_images=others, **({"lossless": True} if kind == "WEBP" else {}))
    assert media.page_count(path) == 4
    for k in (4, 1, 3, 2):
        assert np.abs(read_image(path, page=k).astype(int) - 60 * (k - 1)).max() <= 1
        assert media.read_size(path, page=k) == (8, 9)
    for wrong in (0, 5):
        with pytest.raises(ImageError, match=f"there is no page {wrong}, the file has 4"):
            read_image(path, page=wrong)
    told = Readings()
    read_image(path, told=told)
    assert told.notes(Intensity()) == (f"Only page 1 of 1 file was read: {path} (4 pages).",)
    with pytest.raises(ImageError, match="a stack of 4"):
        media.read_values(path)


def test_deep_pages_of_different_kinds():
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        for k, kind in enumerate(("u2", "f4", "i8")):
            writer.write(np.full((5 + k, 6), 3 + k, kind), photometric="minisblack")
    for k in range(3):
        found = read_image(stream.getvalue(), page=k + 1, intensity="values:0..255")
        assert found.shape == (5 + k, 6, 3)
        assert (found == 3 + k).all()


def test_smaller_copies_are_no_pages():
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        writer.write(RAW)
        writer.write(RAW[::2, ::2], subfiletype=1)
    assert media.page_count(stream.getvalue()) == 1
    told = Readings()
    read_image(stream.getvalue(), told=told)
    assert "smaller copies" in " ".join(told.notes(PERCENTILES))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["u1", "u2", "f4"])
def test_an_oriented_tiff_has_one_size(orientation, kind):
    """Its size is turned once, in the header and in the pixels."""
    upright = rng.integers(0, 200, (6, 9)).astype(kind)
    stored = upright
    for condition, change in (
        (orientation in (2, 3, 6, 7), lambda a: a[:, ::-1]),
        (orientation in (3, 4, 7, 8), lambda a: a[::-1]),
        (orientation >= 5, lambda a: a.T),
    ):
        stored = change(stored) if condition else stored
    data = tiff(np.ascontiguousarray(stored), extratags=[(274, 3, 1, orientation, True)])
    assert media.read_size(data) == (6, 9)
    np.testing.assert_array_equal(media.read_values(data), upright)
    with media.opened(data) as file:
        assert file.stored_size() == stored.shape
        plain = file.decode(upright=False)
        np.testing.assert_array_equal(np.array(plain.image) if plain.values is None else plain.values, stored)


# ---- damage ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("late", [False, True])
def test_damage_in_the_middle_of_a_png_is_found(late):
    """Looking for an orientation must not decode the pixels and swallow what is wrong with them."""
    stream = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(rng.integers(0, 256, (60, 90), dtype=np.uint8)).save(stream, "PNG", exif=exif if late else None)
    data = bytearray(stream.getvalue())
    data[len(data) // 2] ^= 0x55
    assert media.read_size(bytes(data)) == ((90, 60) if late else (60, 90))
    with pytest.raises(ImageError, match="damaged") as error:
        read_image(bytes(data))
    assert error.value.code == "damaged-pixels"


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(head: tuple[int, int, int, int, int], rows: bytes) -> bytes:
    """A PNG of these bytes of rows. head: width, height, bits, kind of colour, whether interlaced."""
    start = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", struct.pack(">IIBBxxB", *head))
    palette = png_chunk(b"PLTE", bytes(range(48))) if head[3] == 3 else b""
    return start + palette + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("bits", "colour", "row"), [(8, 0, 21), (1, 0, 3), (16, 0, 42), (4, 3, 11), (8, 2, 63), (16, 6, 168), (16, 2, 126)]
)
def test_a_png_whose_pixels_end_before_its_last_row_is_found(bits, colour, row):
    """The decoder leaves the rest black and says nothing; a black image is no such."""
    for last, sound in ((9, True), (8, False)):
        data = png_of((21, 9, bits, colour, 0), last * (b"\0" * (row + 1)))
        if sound:
            assert read_image(data).shape == (9, 21, 3)
        else:
            with pytest.raises(ImageError, match="pixels end before its last row"):
                read_image(data)


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (9, 21), (16, 16)])
def test_an_interlaced_png_whose_pixels_end_too_early_is_found(size):
    height, width = size
    order = np.zeros((8, 8), int)  # the pass of each pixel, as the specification draws it
    for number, (x, y, dx, dy) in enumerate(
        [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)][::-1]
    ):
        order[y::dy, x::dx] = 6 - number
    passes = [np.argwhere(np.tile(order, (4, 4))[:height, :width] == k) for k in range(7)]
    count = sum(len(own) + len(set(own[:, 0].tolist())) for own in passes)
    assert (read_image(png_of((width, height, 8, 0, 1), bytes(count))) == 0).all()
    with pytest.raises(ImageError, match="damaged"):
        read_image(png_of((width, height, 8, 0, 1), bytes(count - 1)))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0, "optimize": True}])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_jpeg_cut_and_closed_is_found(options, mode):
    stream = io.BytesIO()
    own = np.random.default_rng(2)  # of this test: where the cut falls must not depend on the tests before it
    noise = Image.fromarray(own.integers(0, 256, (64, 80, 3), dtype=np.uint8)).convert(mode)
    noise.save(stream, "JPEG", **options)
    data = stream.getvalue()
    assert read_image(data).shape == (64, 80, 3)
    with pytest.raises(ImageError, match=r"pixels end before its last (row|scan)"):
        read_image(data[: int(len(data) * 0.6)] + b"\xff\xd9")


@pytest.mark.parametrize("share", [0.5, 0.7, 0.9])
def test_a_jpeg_of_cmyk_cut_and_closed_is_found(share):
    """Grey is another number there."""
    data = jpeg("CMYK")
    with pytest.raises(ImageError, match="pixels end before its last row"):
        read_image(data[: int(len(data) * share)] + b"\xff\xd9")


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_progressive_jpeg_cut_in_its_last_scan_is_found(mode):
    """All of it is there, and most bits of every coefficient."""
    y, x = np.mgrid[:64, :80]
    image = np.stack([x * 3, y * 3, x + y], axis=-1) + rng.integers(0, 40, (64, 80, 3))
    stream = io.BytesIO()
    Image.fromarray(image.clip(0, 255).astype(np.uint8)).convert(mode).save(stream, "JPEG", progressive=True)
    data = stream.getvalue()
    assert read_image(data).shape == (64, 80, 3)
    last = data.rindex(b"\xff\xda")
    for share in (0.2, 0.5, 0.8):
        with pytest.raises(ImageError, match="pixels end before its last row"):
            read_image(data[: last + int(share * (len(data) - last))] + b"\xff\xd9")


def jpeg(mode: str, **options: object) -> bytes:
    y, x = np.mgrid[:40, :56]
    own = np.random.default_rng(3)
    image = np.stack([x * 4, y * 5, x + y], axis=-1) + own.integers(0, 40, (40, 56, 3))
    stream = io.BytesIO()
    Image.fromarray(image.clip(0, 255).astype(np.uint8)).convert(mode).save(stream, "JPEG", **options)
    return stream.getvalue()


def segments(data: bytes) -> list[bytes]:
    """Of a JPEG without its first and last marker; a scan with its pixels."""
    places = [found.start() for found in re.finditer(rb"\xff[^\x00\xd0-\xd7\xff]", data)]
    return [data[a:b] for a, b in itertools.pairwise(places)][1:]


def with_scans(data: bytes, kept: Callable[[bytes], bool]) -> bytes:
    """A JPEG with those of its scans alone whose head, from the number of components on, passes."""
    parts = [part for part in segments(data) if part[1] != 0xDA or kept(part[4:])]
    return b"\xff\xd8" + b"".join(parts) + b"\xff\xd9"


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"subsampling": 0, "restart_marker_blocks": 3}])
def test_a_progressive_jpeg_cut_between_any_two_scans_is_found(mode, options):
    """A decoder shows it whole, coarser."""
    data = jpeg(mode, progressive=True, **options)
    whole = read_image(data)
    parts = segments(data)
    scans = [k for k, part in enumerate(parts) if part[1] == 0xDA]
    assert len(scans) >= 6
    np.testing.assert_array_equal(read_image(b"\xff\xd8" + b"".join(parts[: scans[-1] + 1]) + b"\xff\xd9"), whole)
    for k in scans[:-1]:
        for also in range(1, scans[scans.index(k) + 1] - k + 1):  # with and without the tables of the next scan
            with pytest.raises(ImageError, match=r"pixels end before its last scan, of its component [1-4] .* missing"):
                read_image(b"\xff\xd8" + b"".join(parts[: k + also]) + b"\xff\xd9")


def test_scans_that_are_missing_are_named():
    data = jpeg("RGB", progressive=True)
    with pytest.raises(ImageError, match="of its component 1 63 of 64 coefficients are missing"):
        read_image(with_scans(data, lambda scan: scan[0] == 3))
    with pytest.raises(ImageError, match="of its component 3 the last bits of 63 of 64 coefficients are missing"):
        read_image(with_scans(data, lambda scan: scan[:2] != b"\1\3" or scan[5] != 0x10))


def test_a_jpeg_whose_components_come_one_by_one():
    """Of frames that are not progressive too: a scan for each component."""
    grey = jpeg("L")
    frame, scan = grey.index(b"\xff\xc0"), grey.index(b"\xff\xda")
    heads = [grey[scan : scan + 5] + bytes([k]) + grey[scan + 6 : -2] for k in (1, 2, 3)]
    size = grey[frame + 4 : frame + 9]
    three = b"\xff\xc0\0\x11" + size + b"\3" + b"".join(bytes([k, 0x11, 0]) for k in (1, 2, 3))
    start = grey[:frame] + three + grey[frame + 13 : scan]
    luma = read_image(grey)[..., 0].astype(int)
    whole = read_image(start + b"".join(heads) + b"\xff\xd9")
    np.testing.assert_allclose(whole[..., 1], (luma - 1.0584 * (luma - 128)).clip(0, 255), atol=2)
    for count in (1, 2):
        with pytest.raises(ImageError, match=f"of its component {count + 1} 64 of 64 coefficients are missing"):
            read_image(start + b"".join(heads[:count]) + b"\xff\xd9")


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_whole_jpegs_are_read(mode, subsampling):
    for progressive in (False, True):
        data = jpeg(mode, subsampling=subsampling, progressive=progressive)
        assert read_image(data + b"behind\xff\xd9it").shape == (40, 56, 3)


def test_a_jpeg_made_without_the_last_bits_is_read():
    """It is legal, and no scan says that more was to come."""
    first = with_scans(jpeg("L", progressive=True), lambda scan: scan[5] < 0x10)
    with pytest.raises(ImageError, match="the last bits of 64 of 64 coefficients are missing"):
        read_image(first)
    assert first.count(b"\1\1\0\0\0\1") == 1  # the scan of the mean values: one bit less of them
    assert read_image(first.replace(b"\1\1\0\0\0\1", b"\1\1\0\0\0\2")).shape == (40, 56, 3)


def test_grey_jpegs_are_not_taken_for_cut_ones():
    for options in ({}, {"progressive": True}, {"restart_marker_blocks": 2}):
        stream = io.BytesIO()
        Image.new("RGB", (64, 80), (128, 128, 128)).save(stream, "JPEG", **options)
        assert (read_image(stream.getvalue()) == 128).all()


@pytest.mark.parametrize("kind", ["u1", "u2"])
def test_damage_in_the_middle_of_a_deflated_tiff_is_found(kind):
    """Also where the damaged bytes unpack to more than the strip has, so that no decoder comes to the checksum."""
    values = (rng.integers(0, 256, (200, 300, 3)) // 16).astype(kind)
    data = tiff(values, photometric="rgb", compression="zlib", rowsperstrip=50)
    np.testing.assert_array_equal(media.read_image(data, intensity="values:0..255"), values)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        places = list(zip(file.pages[0].dataoffsets, file.pages[0].databytecounts, strict=True))
    for place, count in places:
        for at in range(place + 200, place + count - 4, count // 9):
            damaged = bytearray(data)
            damaged[at] ^= 0x10
            with pytest.raises(ImageError, match="damaged"):
                read_image(bytes(damaged), intensity="values:0..255")


def test_strips_that_are_packed_with_rows_of_padding():
    """The last strip of some writers has as many rows as the others."""
    values = rng.integers(0, 9, (30, 20)).astype(np.uint16)
    data = tiff(values, compression="zlib", rowsperstrip=30)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        at = file.pages[0].tags["ImageLength"].valueoffset
    short = bytearray(data)
    short[at : at + 2] = struct.pack("<H", 25)  # the image has fewer rows than its strip
    np.testing.assert_array_equal(read_image(bytes(short), intensity="values:0..255")[..., 0], values[:25])


@pytest.mark.parametrize(("width", "height"), [(1, 1), (2**31 - 16, 2**31 - 16)])
def test_tiles_that_lie_about_their_size(width, height):
    data = bytearray(tiff(np.arange(4096, dtype="<u2").reshape(64, 64), tile=(16, 16), compression="zlib"))
    for tag, value in ((322, width), (323, height)):
        place = data.index(struct.pack("<H", tag), 8)
        data[place : place + 12] = struct.pack("<HHLL", tag, 4, 1, value)
    with pytest.raises(ImageError, match="strips or tiles"):
        read_image(bytes(data))


def test_headers_that_lie():
    good = tiff(np.arange(600).reshape(20, 30))
    with media.opened(good) as file:
        assert file.mode == "int64"
    for cut in (9, 50, 200, len(good) - 400):
        with pytest.raises(ImageError, match="damaged"):
            read_image(good[:cut], intensity="percentiles")
