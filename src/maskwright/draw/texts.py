"""Texts on an overlay: a label that touches its object, and a legend where labels do not fit.

Letters: N instances.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from maskwright.draw.colours import Colour, colour_of, score_colour
from maskwright.errors import ConfigError
from maskwright.types import Instances
from maskwright.wording import counted, one_line

Rectangle = tuple[float, float, float, float]

FEW = 12
"""Up to this many texts, each is written unless its object is tiny; with more, only where it fits into its object."""

MOST = 0.5
"""With more than FEW texts, all are omitted unless this share of them fits: a few would say nothing of the others."""

LEGIBLE = 8
"""Height of the smallest text, in pixels."""

HIDDEN = 0.25
"""The largest share of any object that texts may cover."""

LEGEND_SHARE, LEGEND_ROWS, LEGEND_LETTERS = 0.1, 12, 30
"""The largest share of the image that a legend takes, its classes and the letters of a name."""

INK, PANEL, DARKNESS = (255, 255, 255), (20, 20, 24), 0.7
"""Colours of a legend's letters and of the ground behind it, and how much of the ground's."""


@dataclass(frozen=True)
class Placed:
    """A text at its place. row: of which instance. spot: x0, y0, x1, y1 of the ground behind it."""

    row: int
    text: str
    spot: Rectangle


def wanted(
    instances: Instances, labels: bool, scores: bool, texts: Sequence[bool] | None
) -> dict[int, tuple[str, str]]:
    """By instance that has an area, its text and a short form for where the text does not fit.

    The short form is the track's number, or the class name if there are several classes, else the score.
    """
    if texts is not None and len(texts) != len(instances):
        raise ConfigError(f"overlay: texts has {len(texts)} values, expected one for each of {len(instances)}.")
    if not (labels or scores):
        return {}
    areas = (instances.boxes[:, 2:] - instances.boxes[:, :2]).clip(0).prod(axis=1)  # (N,)
    chosen = [i for i in range(len(instances)) if areas[i] > 0 and (texts is None or texts[i])]
    names = [instances.classes[int(k)] if labels else "" for k in instances.labels]
    tracks = [""] * len(instances) if instances.track_ids is None else [f"#{k}" for k in instances.track_ids]
    marks = [f"{s:.2f}" if scores else "" for s in instances.scores]
    several = len(set(names)) > 1
    out = {}
    for i in chosen:
        parts = [part for part in (names[i], tracks[i], marks[i]) if part]
        out[i] = (" ".join(parts), tracks[i] or (names[i] if several else marks[i]) or parts[0])
    return out


# ---- places -----------------------------------------------------------------------------------------------------


def placed(
    pen: ImageDraw.ImageDraw, instances: Instances, texts: dict[int, tuple[str, str]], size: int, *, by_box: bool
) -> list[Placed]:
    """The texts that are written, highest score first, each at the first place that is allowed.

    size: height of the letters. by_box: boxes are drawn, so that texts stand at their corners.
    """
    font, crowd = ImageFont.load_default(size), len(texts) > FEW
    pad, frame = max(1, size // 5), (instances.size[1], instances.size[0])
    out: list[Placed] = []
    taken, hidden = np.zeros((0, 4)), np.zeros(len(instances))
    for i in sorted(texts, key=lambda i: -instances.scores[i]):
        box = instances.boxes[i].astype(np.float64)
        for text in dict.fromkeys(map(one_line, texts[i])):
            extent = (pen.textlength(text, font=font) + 2 * pad, float(size + 2 * pad))
            if not _fits(box, extent, crowd):
                continue
            for spot in _spots(instances, i, extent, frame, inside=crowd, by_box=by_box):
                if _overlaps(spot, taken).any():
                    continue
                covered = hidden + _hidden(instances, spot)
                if (covered <= HIDDEN).all():
                    out.append(Placed(i, text, spot))
                    taken, hidden = np.concatenate([taken, [spot]]), covered
                    break
            else:
                continue
            break
    return [] if crowd and len(out) < MOST * len(texts) else out


def _fits(box: NDArray[np.float64], extent: tuple[float, float], crowd: bool) -> bool:
    """Whether an object is large enough for a text (width, height); crowd: whether there are more than FEW texts."""
    wide, high = float(box[2] - box[0]), float(box[3] - box[1])
    if crowd:
        return wide >= extent[0] and extent[0] * extent[1] <= HIDDEN * wide * high
    return min(wide, high) >= 0.6 * extent[1]


def _spots(
    instances: Instances, i: int, text: tuple[float, float], frame: tuple[int, int], *, inside: bool, by_box: bool
) -> Iterator[Rectangle]:
    """Places in the image for a text (width, height) at its object: above, in and below it. inside: only in it.

    by_box: at the corners of its box; else at the first and last row of its mask.
    """
    (w, h), (right, bottom) = text, frame
    if w > right or h > bottom:
        return
    x0, y0, x1, y1 = (float(v) for v in instances.boxes[i])
    above, below = x0, x0
    if not by_box and instances.crops is not None and instances.crops.bitmaps[i].any():
        (top, left), crop = instances.crops.corners[i].tolist(), instances.crops.bitmaps[i]
        rows = np.flatnonzero(crop.any(axis=1))
        y0, y1 = top + int(rows[0]), top + int(rows[-1]) + 1
        above, below = (left + float(np.flatnonzero(crop[k]).mean()) + 0.5 - w / 2 for k in (rows[0], rows[-1]))
    middle = ((x0 + x1 - w) / 2, (y0 + y1 - h) / 2)
    around = [(above, y0 - h), (above, y0), (below, y1), (below, y1 - h), (x1 - w, y0 - h), middle]
    for x, y in [(above, y0), middle, (below, y1 - h)] if inside else around:
        x, y = min(max(x, 0), right - w), min(max(y, 0), bottom - h)
        yield x, y, x + w, y + h


def _overlaps(spot: Rectangle, boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(N,) whether each of the boxes has area in common with the spot."""
    x0, y0, x1, y1 = spot
    return (x0 < boxes[:, 2]) & (x1 > boxes[:, 0]) & (y0 < boxes[:, 3]) & (y1 > boxes[:, 1])


def _hidden(instances: Instances, spot: Rectangle) -> NDArray[np.float64]:
    """(N,) share of each object's mask, or without masks of its box, that a text at `spot` covers."""
    boxes = instances.boxes.astype(np.float64)
    out = np.zeros(len(boxes))
    if instances.crops is None:
        sides = np.minimum(boxes[:, 2:], spot[2:]) - np.maximum(boxes[:, :2], spot[:2])
        whole = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
        out[:] = np.clip(sides, 0, None).prod(axis=1) / np.maximum(whole, 1)
        return out
    x0, y0, x1, y1 = math.floor(spot[0]), math.floor(spot[1]), math.floor(spot[2]) + 1, math.floor(spot[3]) + 1
    bitmaps, corners = instances.crops.bitmaps, instances.crops.corners
    ends = corners + np.array([bitmap.shape for bitmap in bitmaps])
    windows = np.concatenate([corners, ends], axis=1)[:, [1, 0, 3, 2]].astype(np.float64)
    for i in np.flatnonzero(_overlaps((x0, y0, x1, y1), windows)):
        top, left = corners[i]
        crop = bitmaps[i]
        part = crop[max(y0 - top, 0) : max(y1 - top, 0), max(x0 - left, 0) : max(x1 - left, 0)]
        out[i] = part.sum() / max(int(crop.sum()), 1)
    return out


def landmark_names(pen: ImageDraw.ImageDraw, instances: Instances, size: int, others: Sequence[Placed]) -> list[Placed]:
    """The names of landmarks beside their dots, of the instances on which all names find a place; best first.

    size: height of the letters. others: texts that are there. With more than FEW instances there are none.
    """
    if instances.keypoints is None or len(instances) > FEW:
        return []
    font, pad, gap = ImageFont.load_default(size), max(1, size // 5), size / 2
    dots = instances.keypoints[instances.keypoints[:, :, 2] > 0][:, :2].astype(np.float64)
    dots = np.concatenate([dots - gap / 2, dots + gap / 2], axis=1)
    out, taken = list[Placed](), np.array([text.spot for text in others], np.float64).reshape(-1, 4)
    for i in np.argsort(-instances.scores, kind="stable").tolist():
        marks, own, around = instances.classes.landmarks[int(instances.labels[i])], list[Placed](), taken
        points = [] if marks is None else instances.keypoints[i, : len(marks)].tolist()
        for k, (x, y, score) in enumerate(points):
            name = "" if marks is None else one_line(marks.names[k])
            if score <= 0:
                continue
            w, h = pen.textlength(name, font=font) + 2 * pad, float(size + 2 * pad)
            corners = [(x + gap, y - h / 2), (x - gap - w, y - h / 2), (x - w / 2, y - gap - h), (x - w / 2, y + gap)]
            spots = [(left, top, left + w, top + h) for left, top in corners]
            free = (
                s for s in spots if _inside(s, instances.size) and not _overlaps(s, np.vstack([around, dots])).any()
            )
            spot = next(free, None)
            if spot is None:
                break
            own.append(Placed(i, name, spot))
            around = np.vstack([around, spot])
        else:
            out, taken = out + own, around
    return out


def _inside(spot: Rectangle, size: tuple[int, int]) -> bool:
    """Whether all of it is in an image of size (H, W)."""
    return spot[0] >= 0 and spot[1] >= 0 and spot[2] <= size[1] and spot[3] <= size[0]


# ---- writing ----------------------------------------------------------------------------------------------------


def write(pen: ImageDraw.ImageDraw, text: Placed, shade: Colour, size: int) -> None:
    """Write a text on its ground, black or white, whichever is easier to read there."""
    pad, (r, g, b) = max(1, size // 5), shade
    ink = (0, 0, 0) if 0.299 * r + 0.587 * g + 0.114 * b > 140 else (255, 255, 255)
    x0, y0, _, y1 = text.spot
    pen.rounded_rectangle(text.spot, radius=pad, fill=shade)
    pen.text((x0 + pad, (y0 + y1) / 2), text.text, fill=ink, font=ImageFont.load_default(size), anchor="lm")


def legend(canvas: Image.Image, instances: Instances, colour: str, size: int) -> None:
    """Classes with their numbers of instances, and what the colours mean, in the corner with the fewest objects.

    colour: "class" puts the colours beside the names, "score" adds their scale. Nothing is drawn where it would take
    more than LEGEND_SHARE of the image.
    """
    pen, font, line = ImageDraw.Draw(canvas), ImageFont.load_default(size), round(1.4 * size)
    pad, square, bar = round(0.5 * size), round(0.8 * size) if colour == "class" else 0, 5 * size
    rows, ends = _rows(instances), ("score 0", "1") if colour == "score" else ()
    indent = square and square + pad
    widths = [pen.textlength(text, font=font) + indent for text, _ in rows]
    if ends:
        widths.append(sum(pen.textlength(end, font=font) for end in ends) + bar + 2 * pad)
    wide, high = math.ceil(max(widths)) + 2 * pad, line * (len(rows) + bool(ends)) + 2 * pad
    if wide > canvas.width or high > canvas.height or wide * high > LEGEND_SHARE * canvas.width * canvas.height:
        return
    x, y = _corner(instances, wide, high)
    ground = canvas.crop((x, y, x + wide, y + high))
    canvas.paste(Image.blend(ground, Image.new("RGB", ground.size, PANEL), DARKNESS), (x, y))
    left, middle = x + pad, y + pad + line // 2
    for text, label in rows:
        if square and label >= 0:
            pen.rectangle((left, middle - square // 2, left + square, middle + square // 2), fill=colour_of(label))
        pen.text((left + indent, middle), text, fill=INK, font=font, anchor="lm")
        middle += line
    if ends:
        start = left + math.ceil(pen.textlength(ends[0], font=font)) + pad
        pen.text((left, middle), ends[0], fill=INK, font=font, anchor="lm")
        for k in range(bar):
            pen.line((start + k, middle - size // 3, start + k, middle + size // 3), fill=score_colour(k / (bar - 1)))
        pen.text((start + bar + pad, middle), ends[1], fill=INK, font=font, anchor="lm")


def _rows(instances: Instances) -> list[tuple[str, int]]:
    """The lines of a legend with their labels: classes by their numbers of instances; of the last ones the count."""
    counts = np.bincount(instances.labels, minlength=len(instances.classes))
    order = [int(k) for k in np.argsort(-counts, kind="stable") if counts[k]]
    rows = [(f"{one_line(instances.classes[k])[:LEGEND_LETTERS]}  {counts[k]}", k) for k in order[:LEGEND_ROWS]]
    rest = len(order) - LEGEND_ROWS
    return rows if rest < 1 else [*rows, (f"and {counted(rest, 'more class', 'es')}", -1)]


def _corner(instances: Instances, wide: int, high: int) -> tuple[int, int]:
    """Where a legend hides the fewest objects, as shares of them."""
    height, width = instances.size
    corners = [(0, 0), (width - wide, 0), (0, height - high), (width - wide, height - high)]
    hidden = [_hidden(instances, (x, y, x + wide - 1, y + high - 1)).sum() for x, y in corners]
    return corners[int(np.argmin(hidden))]
