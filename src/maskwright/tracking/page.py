"""One page for a video: which frames are key frames and why, what was carried from them, and how far it moved."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from PIL import Image, ImageDraw

from maskwright import draw, media
from maskwright.media.video import VideoFrame
from maskwright.report import charts
from maskwright.report import page as html
from maskwright.report.charts import Series
from maskwright.report.page import Column, Html
from maskwright.results.prediction import text_file
from maskwright.results.video import FrameResult
from maskwright.tracking.writing import FrameWriter, VideoRun
from maskwright.types import FloatArray, ImageArray
from maskwright.wording import counted

REASONS = MappingProxyType(
    {
        "first": "the first frame, or that of a segment",
        "size": "another size than the frame before",
        "cut": "a scene cut",
        "interval": "the interval was over",
        "change": "too much of the image was new",
        "travel": "its objects had moved too far",
    }
)
"""What `video.keys.Why` means."""

MOST_IMAGES, MOST_ROWS = 48, 1000
"""Frames of a longer video that are shown, evenly spread, and frames that have a row."""

SIDE, QUALITY = 400, 80
"""Of the images: the longest side in pixels, and JPEG's quality."""


@dataclass(frozen=True)
class _Row:
    """What the page keeps of a frame. moves: mean and largest way of its instances since the key frame, in pixels."""

    index: int
    key: bool
    why: str
    source: int
    instances: int
    fit: Mapping[str, float] | None
    moves: tuple[float, float] | None


@dataclass(eq=False)
class _Clip:
    """A video as it passes by."""

    rows: list[_Row] = field(default_factory=list)
    images: list[tuple[str, str, bytes]] = field(default_factory=list)

    def add(self, result: FrameResult) -> _Row:
        document, shifts = result.document, _shifts(result)
        ways = np.linalg.norm(shifts, axis=1)
        moves = (float(ways.mean()), float(ways.max())) if len(ways) else None
        source = document.get("key_frame", document["index"])
        why = document.get("why", "")
        row = _Row(document["index"], document["key"], why, source, len(result.rows), document.get("fit"), moves)
        self.rows.append(row)
        return row

    def content(self, notes: Sequence[str]) -> list[Html]:
        """The sections of the page."""
        return [
            html.tiles(self._figures()),
            self._fits(),
            self._keys(),
            self._shown(),
            self._frames(),
            html.notes("Notes", notes),
        ]

    def _figures(self) -> list[tuple[str, str]]:
        keys = sum(row.key for row in self.rows)
        moves = [row.moves[0] for row in self.rows if row.moves is not None]
        carried = "instances" if any(row.fit for row in self.rows if not row.key) else "features"
        return [
            ("frames", f"{len(self.rows)}"),
            ("key frames", f"{keys} ({100 * keys / max(len(self.rows), 1):.0f} %)"),
            ("carried to the others", "nothing" if keys == len(self.rows) else carried),
            *([("mean shift since the key frame", f"{np.mean(moves):.1f} pixels")] if moves else []),
        ]

    def _fits(self) -> Html:
        """How well key frames fit, over time."""
        fitted = [(row.index, row.fit) for row in self.rows if row.fit is not None]
        if not fitted:
            return Html("")
        names = {
            "change": "share of the image that is new",
            "travel": "shift of the instances, in their widths",
            "misfit": "share of instances that fit nothing",
        }
        series = [Series(text, [(float(i), fit[name]) for i, fit in fitted]) for name, text in names.items()]
        chart = charts.line_chart("How well key frames fit", series, x_label="frame", y_label="share, widths")
        lead = "Of a key frame: how the one before fitted it, where that is why it became one."
        return html.section("Fit", [html.grid([chart])], lead)

    def _keys(self) -> Html:
        served: dict[int, list[int]] = {}
        for row in self.rows:
            served.setdefault(row.source, []).append(row.index)
        rows: list[list[str | float | None]] = []
        for row in [row for row in self.rows if row.key][:MOST_ROWS]:
            own = served[row.index]
            fits = [None if row.fit is None else round(row.fit[name], 3) for name in ("change", "travel", "misfit")]
            rows.append([f"{row.index}", REASONS.get(row.why, row.why), f"{own[0]} to {own[-1]}", row.instances, *fits])
        columns = [Column("key frame"), Column("why"), Column("serves frames"), Column("instances")]
        columns += [Column(name) for name in ("change", "travel", "misfit")]
        return html.section("Key frames", [html.table(columns, rows)])

    def _shown(self) -> Html:
        if not self.images:
            return Html("")
        lead = "Lines lead from where an instance was in its key frame to where it is."
        return html.section("Images", [html.images(self.images)], lead)

    def _frames(self) -> Html:
        columns = [Column(name) for name in ("frame", "source", "instances", "mean shift", "largest shift")]
        rows: list[list[str | float | None]] = []
        for row in self.rows[:MOST_ROWS]:
            mean, most = (None, None) if row.moves is None else (round(m, 2) for m in row.moves)
            rows.append([f"{row.index}", _source_of(row), row.instances, mean, most])
        left = len(self.rows) - len(rows)
        lead = f"The first {len(rows)}; {counted(left, 'frame')} more have no row." if left > 0 else ""
        return html.section("Frames", [html.table(columns, rows)], f"Shifts in pixels. {lead}".strip())


@contextmanager
def video_page(run: VideoRun) -> Iterator[FrameWriter]:
    """A page in one file. Its images are read from the source again, where that can be."""
    clip, every = _Clip(), max(1, -(-run.frames // MOST_IMAGES))
    with closing(_none() if run.read is None else run.read()) as frames:
        if run.read is None:
            run.notes.append("The page has no images, since the source cannot be read again.")

        def write(result: FrameResult) -> None:
            row = clip.add(result)
            frame = next((f for f in frames if f.index >= row.index), None)
            if frame is not None and frame.index == row.index and result.frame % every == 0:
                image = _drawn(frame.image, result)
                name = f"Frame {row.index}"
                clip.images.append((name, _source_of(row), media.encoded(image, "JPEG", quality=QUALITY)))

        yield write
    source = str(run.results.head["source"])
    with text_file(run.place) as file:
        file.write(html.page(f"How {source} was followed", "Key frames, and what was carried", clip.content(run.notes)))


def _none() -> Generator[VideoFrame]:
    yield from ()


def _shifts(result: FrameResult) -> FloatArray:
    """(N, 2)."""
    return np.array(result.document.get("shifts", ()), np.float32).reshape(-1, 2)


def _source_of(row: _Row) -> str:
    if row.key:
        return f"key frame: {REASONS.get(row.why, row.why)}"
    away = row.index - row.source
    return f"from key frame {row.source}, {counted(abs(away), 'frame')} {'earlier' if away > 0 else 'later'}"


def _drawn(image: ImageArray, result: FrameResult) -> Image.Image:
    """The frame with its instances and the shift of each, small."""
    canvas = Image.fromarray(draw.overlay(image, result.found, labels=False, scores=False))
    pen, width = ImageDraw.Draw(canvas), max(2, max(result.found.size) // 200)
    middles = result.found.boxes.astype(np.float64).reshape(-1, 2, 2).mean(axis=1)
    for (x, y), (dx, dy) in zip(middles, _shifts(result), strict=False):
        pen.line([(x - dx, y - dy), (x, y)], fill=(255, 255, 255), width=width)
        pen.ellipse([x - width, y - width, x + width, y + width], fill=(255, 255, 255))
    canvas.thumbnail((SIDE, SIDE))
    return canvas
