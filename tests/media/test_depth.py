"""Numbers that Pillow reads with 8 bits or scales: read as they are stored, or with a word that they are not."""

import io
import struct
import zlib
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from maskwright import media
from maskwright.errors import ImageError
from maskwright.media import Readings, read_image, read_values
from maskwright.types import FULL

tifffile = pytest.importorskip("tifffile", reason="it comes with scikit-image")

GREY = (np.arange(48 * 64).reshape(48, 64) * 1.3).astype(np.uint16) % 4096
RGB = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], axis=-1)


def encoded(values: np.ndarray, codec: str, form: str, given: str, **options: str) -> list[bytes]:
    """The packets of one frame, by FFmpeg."""
    coder = av.CodecContext.create(codec, "w")
    coder.height, coder.width = values.shape[:2]
    coder.pix_fmt, coder.time_base, coder.options = form, Fraction(1), options
    frame = av.VideoFrame.from_ndarray(values, format=given)
    return [bytes(p) for p in [*coder.encode(frame), *coder.encode(None)]]


def jpeg2000(values: np.ndarray, form: str) -> bytes:
    """A codestream without losses."""
    return b"".join(encoded(values, "jpeg2000", form, form, pred="dwt53", format="j2k"))


def avif(values: np.ndarray) -> bytes:
    """10 bits, with small losses."""
    stream = io.BytesIO()
    with av.open(stream, "w", format="avif") as container:
        track = container.add_stream("libsvtav1", rate=1, options={"crf": "1", "preset": "8", "svtav1-params": "lp=1"})
        track.height, track.width = values.shape[:2]
        track.pix_fmt = "yuv420p10le"
        frame = av.VideoFrame.from_ndarray(values, format="rgb48le").reformat(format="yuv420p10le")
        container.mux(track.encode(frame))
        container.mux(track.encode(None))
    return stream.getvalue()


def stored(content: bytes) -> media.Stored:
    with media.opened(content) as file:
        return file.decode()


def pnm(kind: str, values: np.ndarray, top: int) -> bytes:
    head = f"{kind}\n# a comment\n{values.shape[1]} {values.shape[0]}\n{top}\n".encode()
    if kind in ("P2", "P3"):
        return head + b" ".join(str(v).encode() for v in values.ravel())
    return head + values.astype(">u2" if top > 255 else "u1").tobytes()


@pytest.mark.parametrize("top", [1, 7, 100, 254, 255, 256, 1000, 4095, 65535])
@pytest.mark.parametrize("kind", ["P2", "P3", "P5", "P6"])
def test_pnm_has_the_numbers_of_its_file(kind: str, top: int) -> None:
    values = np.random.default_rng(0).integers(0, top + 1, (9, 7, 3) if kind in ("P3", "P6") else (9, 7))
    content = pnm(kind, values, top)
    found = stored(content)
    if top != 255:
        assert found.values is not None
        np.testing.assert_array_equal(found.values, values)
        assert found.top == top
    shown = read_image(content)
    wanted = (values / top * 255 + 0.5).astype(np.uint8)
    np.testing.assert_array_equal(shown, wanted if wanted.ndim == 3 else np.repeat(wanted[:, :, None], 3, axis=2))
    if values.ndim == 2:
        np.testing.assert_array_equal(read_values(content), values)


def test_pnm_headers_that_cannot_be() -> None:
    for head in (b"P5\n3 2\n0\n", b"P5\n3 2\n70000\n", b"P5\n" + b"#" * 5000 + b"\n3 2\n255\n"):
        with pytest.raises(ImageError, match="header"):
            read_image(head + bytes(6))


@pytest.mark.parametrize(("form", "values"), [("gray12le", GREY), ("gray16le", GREY << 4), ("rgb48le", RGB << 4)])
def test_jpeg_2000_keeps_all_bits(form: str, values: np.ndarray) -> None:
    found = stored(jpeg2000(values, form))
    np.testing.assert_array_equal(found.values, values)
    assert found.top == (4095 if form == "gray12le" else 65535)


def test_signed_jpeg_2000_has_negative_numbers() -> None:
    content = bytearray(jpeg2000(GREY << 4, "gray16le"))
    content[content.index(b"\xff\x4f\xff\x51") + 42] |= 128
    values = stored(bytes(content)).values
    assert values is not None
    np.testing.assert_array_equal(values, (GREY << 4).astype(int) - 32768)


@pytest.mark.skipif("libsvtav1" not in av.codecs_available, reason="this FFmpeg has no encoder of AV1")
def test_avif_of_ten_bits_has_more_than_256_steps() -> None:
    grey = np.repeat((np.arange(128) * 512).astype(np.uint16)[None, :, None], 64, axis=0).repeat(3, axis=2)
    found = stored(avif(grey))
    assert found.values is not None
    assert found.top == 1023
    assert np.abs(found.values / 1023 - grey / 65535).mean() < 0.01
    fine = stored(avif((grey // 8) + 20_000))  # 32 steps of 8 bits
    assert fine.values is not None
    assert len(np.unique(fine.values)) > 64


def test_where_eight_bits_alone_can_be_read_it_is_told() -> None:
    stream = io.BytesIO()
    tifffile.imwrite(stream, np.dstack([RGB, GREY]) << 4, photometric="separated")
    told = Readings()
    read_image(stream.getvalue(), told=told)
    (note,) = told.notes(FULL)
    assert note.startswith("1 image with more than 8 bits, of which 8 were read, whatever the intensity")
    assert "(16 bits)" in note


# ---- grey below 8 bits ----------------------------------------------------------------------------------------------


def png(rows: bytes, size: tuple[int, int], depth: int, colour: int, key: bytes = b"") -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">L", len(content)) + name + content + struct.pack(">L", zlib.crc32(name + content))

    head = struct.pack(">LLBBBBB", size[1], size[0], depth, colour, 0, 0, 0)
    keyed = chunk(b"tRNS", key) if key else b""
    body = chunk(b"IHDR", head) + keyed + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("depth", [2, 4])
def test_label_values_of_few_bits_are_not_spread(depth: int) -> None:
    """Class 1 of 4 is 1, not 85."""
    values = np.arange(16) % (1 << depth)
    bits = "".join(f"{v:0{depth}b}" for v in values)
    packed = b"\0" + bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8))
    content = png(packed, (1, 16), depth, 0)
    assert read_values(content)[0].tolist() == values.tolist()
    assert read_image(content)[0, :, 0].tolist() == (values * (255 // ((1 << depth) - 1))).tolist()


def few_bits(values: np.ndarray, bits: int, colours: int, turn: int = 1) -> bytes:
    """A TIFF of grey whose rows fill whole bytes. colours: 0 where 0 is white, else 1."""
    digits = "".join(f"{v:0{bits}b}" for v in values.ravel())
    data = bytes(int(digits[i : i + 8], 2) for i in range(0, len(digits), 8))
    height, width = values.shape
    entries = [(256, width), (257, height), (258, bits), (259, 1), (262, colours), (273, 0), (274, turn)]
    entries += [(277, 1), (278, height), (279, len(data))]
    begin = 8 + 2 + 12 * len(entries) + 4
    table = b"".join(struct.pack("<HHLL", tag, 4, 1, begin if tag == 273 else v) for tag, v in entries)
    return struct.pack("<2sHLH", b"II", 42, 8, len(entries)) + table + bytes(4) + data


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_label_values_are_not_inverted_where_0_is_white(bits: int) -> None:
    """As ImageJ writes masks with an inverting table: 0 is the ground."""
    values = (np.arange(32).reshape(4, 8) % (1 << bits)).astype(np.uint8)
    content = few_bits(values, bits, 0)
    np.testing.assert_array_equal(read_values(content), values)
    np.testing.assert_array_equal(read_image(content)[..., 0], 255 - values * (255 // ((1 << bits) - 1)))


def test_orientation_of_few_bits() -> None:
    values = (np.arange(32).reshape(4, 8) % 16).astype(np.uint8)
    content = few_bits(values, 4, 1, turn=6)
    np.testing.assert_array_equal(read_values(content), np.rot90(values, -1))
    with media.opened(content) as file:
        np.testing.assert_array_equal(file.decode(upright=False).values, values)


# ---- opacity and white ----------------------------------------------------------------------------------------------


def test_a_clear_colour_of_a_deep_png_is_laid_over_white() -> None:
    grey = np.array([[1000, 2000, 3000]], ">u2")
    assert read_image(png(b"\0" + grey.tobytes(), (1, 3), 16, 0, struct.pack(">H", 2000)))[0, :, 0].tolist() == [
        4,
        255,
        12,
    ]
    rgb = np.array([[[1000, 2000, 3000], [40000, 2000, 3000]]], ">u2")
    content = png(b"\0" + rgb.tobytes(), (1, 2), 16, 2, struct.pack(">3H", 1000, 2000, 3000))
    assert read_image(content)[0].tolist() == [[255, 255, 255], [156, 8, 12]]


def test_colours_that_are_multiplied_by_the_opacity() -> None:
    straight = np.array([[[60000, 30000, 0, 65535], [60000, 30000, 0, 32768], [0, 0, 0, 0]]], np.uint16)
    ready = straight.copy()
    ready[..., :3] = np.rint(straight[..., :3] * (straight[..., 3:] / 65535))
    shown = []
    for values, kind in ((straight, "unassalpha"), (ready, "assocalpha")):
        stream = io.BytesIO()
        tifffile.imwrite(stream, values, photometric="rgb", extrasamples=[kind])
        shown.append(read_image(stream.getvalue()))
    np.testing.assert_allclose(shown[0].astype(int), shown[1], atol=1)


@pytest.mark.parametrize("intensity", ["full", "percentiles", "percentiles:5..90"])
def test_where_0_is_white_the_same_image_is_seen(intensity: str) -> None:
    """Percentiles are of the brightness, not of the stored values."""
    values = np.random.default_rng(0).integers(32978, 36864, (50, 60)).astype(np.uint16)
    black, white = io.BytesIO(), io.BytesIO()
    tifffile.imwrite(black, values, photometric="minisblack")
    tifffile.imwrite(white, 65535 - values, photometric="miniswhite")
    shown = [read_image(s.getvalue(), intensity=intensity).astype(int) for s in (black, white)]
    assert np.abs(shown[0] - shown[1]).max() <= 1


def test_holes_are_black_where_0_is_white() -> None:
    values = np.linspace(1, 2, 600, dtype=np.float32).reshape(20, 30)
    values[3, 4] = np.nan
    stream = io.BytesIO()
    tifffile.imwrite(stream, values, photometric="miniswhite")
    assert read_image(stream.getvalue(), intensity="percentiles")[3, 4].tolist() == [0, 0, 0]


# ---- HEIC -----------------------------------------------------------------------------------------------------------


def test_heic_without_its_package_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif.as_plugin", None)
    for brands in (b"heic\0\0\0\0mif1heic", b"mif1\0\0\0\0mif1heic"):
        with pytest.raises(ImageError, match=r"pip install 'maskwright\[heic\]'"):
            read_image(struct.pack(">L", 24) + b"ftyp" + brands + bytes(64))


@pytest.mark.parametrize("bits", [8, 10])
def test_heic(bits: int) -> None:
    heif = pytest.importorskip("pillow_heif", reason="pip install 'maskwright[heic]'")
    before = dict(Image.OPEN)
    image = np.zeros((48, 72, 3), np.uint8)
    image[:24, :36] = 250, 20, 20
    pixels = image.tobytes() if bits == 8 else (image.astype(np.uint16) * 257).tobytes()
    exif = Image.Exif()
    exif[274] = 6
    stream = io.BytesIO()
    made = heif.from_bytes("RGB" if bits == 8 else "RGB;16", (72, 48), pixels)
    made.save(stream, quality=100, exif=exif.tobytes())
    told = Readings()
    found = read_image(stream.getvalue(), told=told)
    assert media.read_size(stream.getvalue()) == (72, 48)
    assert np.abs(found.astype(int) - np.rot90(image, -1)).mean() < 4
    assert [note for note in told.notes(FULL) if "(10 bits)" in note] == list(told.notes(FULL))
    assert bool(told.notes(FULL)) == (bits == 10)
    assert before == Image.OPEN  # Pillow is as it was for the rest of the process
    with pytest.raises(ImageError):
        read_image(stream.getvalue()[: len(stream.getvalue()) // 2])
