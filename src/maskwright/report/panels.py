"""Small drawings with a title and a sentence, and the sheet that holds them: what an explanation is made of.

A `Drawing` shows a window of some frame (an image's pixels, a feature map's cells); everything that is drawn on it is
given in that frame's coordinates. Letters: H W image, h w map, N rows, w columns of a sheet.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from maskwright.types import ImageArray
from maskwright.wording import one_line

Color = tuple[int, int, int]
Window = tuple[float, float, float, float]
"""x0, y0, x1, y1 in the frame that is shown."""

BoxLike = Sequence[float] | NDArray[Any]
"""x0, y0, x1, y1 as any four numbers."""

WIDTH, HEIGHT = 560, 400
"""Of a drawing, in pixels of the sheet."""

FINE = 2
"""Everything is drawn this many times larger and then shrunk, which makes lines and letters smooth."""

GROUND: Color = (255, 255, 255)
INK: Color = (27, 31, 38)
SOFT: Color = (88, 97, 110)
LINE: Color = (214, 219, 226)
PALE: Color = (244, 246, 248)
CHOSEN: Color = (245, 110, 20)
BEFORE: Color = (40, 130, 240)
OTHER: Color = (150, 158, 170)
WRONG: Color = (220, 40, 60)
EDGE: Color = (240, 40, 170)
REST: Color = (30, 190, 175)

_HEAT = ((8, 10, 40), (40, 40, 120), (20, 110, 140), (60, 175, 110), (250, 225, 70))
_SIGNED = ((30, 80, 190), (130, 175, 235), (250, 250, 250), (245, 165, 120), (195, 50, 25))


def _ramp(values: NDArray[Any], anchors: Sequence[Color]) -> ImageArray:
    """(...) values in 0..1 to (..., 3) colours between the anchors."""
    at = np.linspace(0, 1, len(anchors))
    flat = np.clip(np.nan_to_num(np.asarray(values, np.float64)), 0, 1)
    mixed = [np.interp(flat, at, [color[k] for color in anchors]) for k in range(3)]
    return np.rint(np.stack(mixed, axis=-1)).astype(np.uint8)


def heat(values: NDArray[Any], low: float | None = None, high: float | None = None) -> ImageArray:
    """Values as colours from dark blue to yellow; the range is the values' own unless it is given."""
    values = np.asarray(values, np.float64)
    low = float(values.min(initial=0)) if low is None else low
    high = float(values.max(initial=0)) if high is None else high
    return _ramp((values - low) / (high - low if high > low else 1.0), _HEAT)


def signed(values: NDArray[Any], most: float | None = None) -> ImageArray:
    """Values as colours: blue below 0, white at 0, red above."""
    values = np.asarray(values, np.float64)
    most = float(np.abs(values).max(initial=0)) if most is None else most
    return _ramp(values / (2 * most if most > 0 else 1.0) + 0.5, _SIGNED)


def around(box: BoxLike, limits: Window, share: float = 0.6, least: float = 6.0) -> Window:
    """A window around a box with a margin of `share` of its longer side on each side, cut at the limits.

    least: no window is narrower or lower, where the limits allow it.
    """
    x0, y0, x1, y1 = (float(v) for v in box)
    side = max(x1 - x0, y1 - y0, least / (1 + 2 * share)) * (1 + 2 * share)
    wide = max(side, min(side * WIDTH / HEIGHT, (limits[2] - limits[0])))
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    return (
        max(limits[0], min(x - wide / 2, limits[2] - wide)),
        max(limits[1], min(y - side / 2, limits[3] - side)),
        min(limits[2], max(x + wide / 2, limits[0] + wide)),
        min(limits[3], max(y + side / 2, limits[1] + side)),
    )


class Drawing:
    """A window of a frame, enlarged or shrunk as a whole to fit into `width` x `height`."""

    def __init__(self, window: Window, width: int = WIDTH, height: int = HEIGHT) -> None:
        self.window = window
        x0, y0, x1, y1 = window
        self.zoom = FINE * min(width / max(x1 - x0, 1e-6), height / max(y1 - y0, 1e-6))
        size = max(FINE, round((x1 - x0) * self.zoom)), max(FINE, round((y1 - y0) * self.zoom))
        self.canvas = Image.new("RGB", size, PALE)
        self.pen = ImageDraw.Draw(self.canvas)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Canvas position of a point of the frame."""
        return (x - self.window[0]) * self.zoom, (y - self.window[1]) * self.zoom

    def shows(self, box: BoxLike) -> bool:
        """Whether a part of the box's border lies in the window."""
        left, top, right, bottom = self.window
        apart = box[2] <= left or box[0] >= right or box[3] <= top or box[1] >= bottom
        around_all = box[0] < left and box[1] < top and box[2] > right and box[3] > bottom
        return not apart and not around_all

    def image(
        self, pixels: ImageArray, extent: Window, *, mask: NDArray[Any] | None = None, smooth: bool = True
    ) -> None:
        """Lay an image (h, w, 3) over the extent; mask: (h, w) opacity 0..1; not smooth: cells stay squares."""
        h, w = pixels.shape[:2]
        sx, sy = (extent[2] - extent[0]) / w, (extent[3] - extent[1]) / h
        x0, y0 = max(self.window[0], extent[0]), max(self.window[1], extent[1])
        x1, y1 = min(self.window[2], extent[2]), min(self.window[3], extent[3])
        (left, top), (right, bottom) = (tuple(round(v) for v in self.at(*p)) for p in ((x0, y0), (x1, y1)))
        if x1 <= x0 or y1 <= y0 or right <= left or bottom <= top:
            return
        source = ((x0 - extent[0]) / sx, (y0 - extent[1]) / sy, (x1 - extent[0]) / sx, (y1 - extent[1]) / sy)
        source = (max(source[0], 0), max(source[1], 0), min(source[2], w), min(source[3], h))
        shrinks = self.zoom * min(sx, sy) < 1
        kind = Image.Resampling.BOX if shrinks else Image.Resampling.BICUBIC if smooth else Image.Resampling.NEAREST
        size = (right - left, bottom - top)
        shown = Image.fromarray(pixels).resize(size, kind, box=source)
        opacity = None
        if mask is not None:
            levels = Image.fromarray(np.rint(np.clip(mask, 0, 1) * 255).astype(np.uint8))
            opacity = levels.resize(size, kind, box=source)
        self.canvas.paste(shown, (left, top), opacity)

    def fade(self, amount: float = 0.55) -> None:
        """Make what is drawn so far paler, so that what follows stands out."""
        self.canvas.paste(Image.blend(self.canvas, Image.new("RGB", self.canvas.size, GROUND), amount))

    def box(self, box: BoxLike, color: Color, width: float = 2.5, *, halo: bool = True) -> None:
        """An outline, with a thin dark rim that shows it on any ground."""
        (x0, y0), (x1, y1) = self.at(box[0], box[1]), self.at(box[2], box[3])
        corners = [(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)]
        if halo:
            self.pen.line(corners, fill=INK, width=round((width + 1.6) * FINE), joint="curve")
        self.pen.line(corners, fill=color, width=max(1, round(width * FINE)), joint="curve")

    def mark(self, box: BoxLike, color: Color, width: float = 2.5) -> None:
        """A box, with a ring around it where it is too small to be found by eye."""
        self.box(box, color, width)
        (x0, y0), (x1, y1) = self.at(box[0], box[1]), self.at(box[2], box[3])
        if max(x1 - x0, y1 - y0) < 26 * FINE:
            x, y, r = (x0 + x1) / 2, (y0 + y1) / 2, 24 * FINE
            for rim, shade in ((4.5, INK), (2.5, color)):
                half = rim * FINE / 2
                self.pen.ellipse((x - r - half, y - r - half, x + r + half, y + r + half), outline=shade,
                                 width=round(rim * FINE))  # fmt: skip

    def line(self, points: Sequence[Sequence[float]], color: Color, width: float = 1.0) -> None:
        """A line through points (N, 2)."""
        self.pen.line([self.at(*p) for p in points], fill=color, width=max(1, round(width * FINE)))

    def cells(self, columns: Sequence[float], rows: Sequence[float], color: Color, width: float = 1.0) -> None:
        """The lines of a grid."""
        for x in columns:
            self.line([(x, rows[0]), (x, rows[-1])], color, width)
        for y in rows:
            self.line([(columns[0], y), (columns[-1], y)], color, width)

    def dots(self, points: NDArray[Any], color: Color, radius: float) -> None:
        """Disks of a radius in pixels of the sheet around points (N, 2)."""
        r = radius * FINE
        for x, y in points.tolist():
            u, v = self.at(x, y)
            self.pen.ellipse((u - r, v - r, u + r, v + r), fill=color, outline=INK, width=1)

    def pixels(self) -> ImageArray:
        """What was drawn, (h, w, 3), `FINE` times the sheet's size."""
        return np.asarray(self.canvas)


@dataclass(frozen=True, eq=False)
class Bar:
    """One row of a bar chart: its name, its value, the number that is written, its colour."""

    name: str
    value: float
    color: Color = OTHER
    text: str = ""


def bars(rows: Sequence[Bar]) -> ImageArray:
    """Horizontal bars from a common zero; negative values go left. The longest fills the place there is."""
    canvas = Image.new("RGB", (WIDTH * FINE, HEIGHT * FINE), GROUND)
    pen = ImageDraw.Draw(canvas)
    step = min(HEIGHT / max(len(rows), 1), 48.0) * FINE
    size = max(7 * FINE, min(16 * FINE, round(step * 0.72)))
    font = ImageFont.load_default(size)
    texts = [one_line(row.text) or f"{row.value:.3f}" for row in rows]
    names = [shortened(row.name, font, pen, 150 * FINE) for row in rows]
    left = max((pen.textlength(n, font=font) for n in names), default=0) + 8 * FINE
    right = max((pen.textlength(t, font=font) for t in texts), default=0) + 10 * FINE
    low = min(0.0, *(row.value for row in rows)) if rows else 0.0
    high = max(1e-12, *(row.value for row in rows)) if rows else 1.0
    margin = right if low < 0 else 0
    scale = (canvas.width - left - right - margin) / (high - low)
    zero = left + margin - low * scale
    top = (canvas.height - step * len(rows)) / 2
    for k, (row, name, text) in enumerate(zip(rows, names, texts, strict=True)):
        y0, y1 = top + k * step + step * 0.14, top + (k + 1) * step - step * 0.14
        end = zero + row.value * scale
        pen.rectangle((min(zero, end), y0, max(zero, end), y1), fill=row.color)
        middle = (y0 + y1) / 2
        pen.text((left - 8 * FINE, middle), name, fill=INK, font=font, anchor="rm")
        place = (end - 5 * FINE, "rm") if row.value < 0 else (end + 5 * FINE, "lm")
        pen.text((place[0], middle), text, fill=INK, font=font, anchor=place[1])
    pen.line((zero, top, zero, top + step * len(rows)), fill=INK, width=FINE)
    return np.asarray(canvas)


@dataclass(frozen=True, eq=False)
class Tile:
    """A small image (h, w, 3) with a name below; marked with a frame of a colour, or not."""

    image: ImageArray
    name: str
    frame: Color | None = None


def tiles(items: Sequence[Tile], width: int = WIDTH, height: int = HEIGHT, *, smooth: bool = False) -> ImageArray:
    """Small images in rows, as large as there is room for; all are taken to have one shape."""
    count = max(len(items), 1)
    shape = (items[0].image.shape[0] / items[0].image.shape[1]) if items else 1.0
    text, gap = (19 if any(t.name for t in items) else 0), 8
    best, columns = 0.0, 1
    for n in range(1, count + 1):
        rows = math.ceil(count / n)
        side = min((width - gap * (n - 1)) / n, ((height - gap * (rows - 1)) / rows - text) / shape)
        if side > best:
            best, columns = side, n
    wide, high = max(1, int(best * FINE)), max(1, int(best * shape * FINE))
    rows = math.ceil(count / columns)
    size = columns * wide + (columns - 1) * gap * FINE, rows * (high + text * FINE) + (rows - 1) * gap * FINE
    canvas = Image.new("RGB", (size[0], size[1]), GROUND)
    pen = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(13 * FINE)
    for k, item in enumerate(items):
        x, y = k % columns * (wide + gap * FINE), k // columns * (high + (text + gap) * FINE)
        kind = Image.Resampling.BICUBIC if smooth else Image.Resampling.NEAREST
        kind = Image.Resampling.BOX if item.image.shape[1] > wide else kind
        canvas.paste(Image.fromarray(item.image).resize((wide, high), kind), (x, y))
        if item.frame is not None:
            pen.rectangle((x, y, x + wide - 1, y + high - 1), outline=item.frame, width=4 * FINE)
        if item.name:
            name = shortened(item.name, font, pen, wide)
            color = item.frame or SOFT
            pen.text((x + wide / 2, y + high + text * FINE / 2), name, fill=color, font=font, anchor="mm")
    return np.asarray(canvas)


# ---- the sheet --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Panel:
    """One step. image: (h, w, 3), `FINE` times as large as it is shown. key: what its colours mean."""

    title: str
    text: str
    image: ImageArray
    key: tuple[tuple[Color, str], ...] = ()


GAP, PAD, MARGIN = 26, 14, 30


def sheet(title: str, subtitle: str, panels: Sequence[Panel]) -> ImageArray:
    """All panels in rows under a title, numbered in the order in which they are to be read; (H, W, 3)."""
    columns = 3 if len(panels) > 4 else max(1, len(panels))
    if len(panels) % 3 == 1 and len(panels) > 4:
        columns = 4
    rows = [panels[k : k + columns] for k in range(0, len(panels), columns)]
    probe = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    body = ImageFont.load_default(15 * FINE)
    texts = [[wrapped(p.text, body, probe, WIDTH * FINE) for p in row] for row in rows]
    heads = [PAD + 30 + 20 * max(len(lines) for lines in row) + 8 for row in texts]
    keys = [26 if any(p.key for p in row) else 0 for row in rows]
    heights = [head + max(p.image.shape[0] for p in row) // FINE + key + PAD
               for head, key, row in zip(heads, keys, rows, strict=True)]  # fmt: skip
    size = (
        2 * MARGIN + columns * (WIDTH + 2 * PAD) + (columns - 1) * GAP,
        2 * MARGIN + 74 + sum(heights) + GAP * (len(rows) - 1),
    )
    canvas = Image.new("RGB", (size[0] * FINE, size[1] * FINE), PALE)
    pen = ImageDraw.Draw(canvas)
    top_font, sub_font = ImageFont.load_default(30 * FINE), ImageFont.load_default(17 * FINE)
    limit = (size[0] - 2 * MARGIN) * FINE
    pen.text((MARGIN * FINE, MARGIN * FINE), shortened(title, top_font, pen, limit), fill=INK, font=top_font)
    pen.text((MARGIN * FINE, (MARGIN + 40) * FINE), shortened(subtitle, sub_font, pen, limit), fill=SOFT, font=sub_font)
    top, number = MARGIN + 74, 1
    for row, lines, head, key, height in zip(rows, texts, heads, keys, heights, strict=True):
        for k, (panel, words) in enumerate(zip(row, lines, strict=True)):
            left = MARGIN + k * (WIDTH + 2 * PAD + GAP)
            _panel(canvas, panel, words, number, (left, top, head, key, height))
            number += 1
        top += height + GAP
    return np.asarray(canvas.resize(size, Image.Resampling.BOX))


def _panel(
    canvas: Image.Image, panel: Panel, lines: Sequence[str], number: int, place: tuple[int, int, int, int, int]
) -> None:
    left, top, head, key, height = (v * FINE for v in place)
    pen = ImageDraw.Draw(canvas)
    wide = (WIDTH + 2 * PAD) * FINE
    pen.rounded_rectangle((left, top, left + wide, top + height), 10 * FINE, fill=GROUND, outline=LINE, width=FINE)
    x, y, r = left + PAD * FINE, top + PAD * FINE, 13 * FINE
    pen.ellipse((x, y, x + 2 * r, y + 2 * r), fill=INK)
    pen.text((x + r, y + r), str(number), fill=GROUND, font=ImageFont.load_default(15 * FINE), anchor="mm")
    title = ImageFont.load_default(20 * FINE)
    pen.text((x + 2 * r + 9 * FINE, y + r), panel.title, fill=INK, font=title, anchor="lm")
    body = ImageFont.load_default(15 * FINE)
    for k, line in enumerate(lines):
        pen.text((x, y + (32 + 20 * k) * FINE), line, fill=SOFT, font=body)
    room = height - head - key - PAD * FINE
    h, w = panel.image.shape[:2]
    spot = (x + (WIDTH * FINE - w) // 2, top + head + (room - h) // 2)
    canvas.paste(Image.fromarray(panel.image), spot)
    small = ImageFont.load_default(14 * FINE)
    at, y = float(x), top + height - (PAD + 9) * FINE
    for color, named in panel.key:
        text = one_line(named)
        pen.rectangle((at, y - 6 * FINE, at + 12 * FINE, y + 6 * FINE), fill=color)
        pen.text((at + 18 * FINE, y), text, fill=INK, font=small, anchor="lm")
        at += 18 * FINE + pen.textlength(text, font=small) + 20 * FINE


def shortened(text: str, font: Any, pen: ImageDraw.ImageDraw, width: float) -> str:
    """The text in one line, cut with dots at its end where it is wider than `width`."""
    text = one_line(text)
    if pen.textlength(text, font=font) <= width:
        return text
    while text and pen.textlength(text + "...", font=font) > width:
        text = text[:-1]
    return text.rstrip() + "..."


def wrapped(text: str, font: Any, pen: ImageDraw.ImageDraw, width: float) -> list[str]:
    """Lines of whole words, none wider than `width` unless a single word is."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and pen.textlength(longer, font=font) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
