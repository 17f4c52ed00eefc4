"""What an explanation of one instance is, whatever the model: numbers, panels drawn from them, and a file.

Letters: H W image.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Self

import numpy as np
from PIL import Image

from maskwright import media
from maskwright.errors import ConfigError, ImageError
from maskwright.geometry import Geometry
from maskwright.report.page import Html, data_uri, escape, facts, grid, page, section
from maskwright.report.panels import (
    BEFORE,
    CHOSEN,
    EDGE,
    OTHER,
    REST,
    Bar,
    Drawing,
    Panel,
    Window,
    bars,
    heat,
    sheet,
)
from maskwright.results.prediction import Prediction, text_file
from maskwright.types import FloatArray, ImageArray, Limits, Masks, OutputSpec
from maskwright.wording import counted

SHOWN_CLASSES = 9
PALE_BAR, DARK_BAR = (205, 210, 218), (60, 66, 78)

LONGEST = 5
"""An overview is at most this many times as long as it is wide."""

SUFFIXES = (".png", ".jpg", ".jpeg", ".html")


@dataclass(frozen=True, eq=False)
class Seen:
    """One image's way through a model: what an explanation is made of.

    name: of the image; image: (H, W, 3) uint8. model: the network that ran; trace: what its stages returned; limits: of
    its detections. geometry: image -> input. output: how raw rows became instances; prediction: those; rows: for each
    of them its row in the raw detections.
    """

    name: str
    image: ImageArray
    model: Any
    trace: Any
    limits: Limits
    geometry: Geometry
    output: OutputSpec
    prediction: Prediction
    rows: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Explanation:
    """How one instance came about. name: of the image; model: as it was loaded; image: (H, W, 3) uint8.

    prediction: all instances of the image, as `Predictor.predict` gives them; instance: the one that is explained.
    class_scores (Q + 1,): of what became the instance, background last; they sum to 1. geometry leads from the image to
    the network's input. output: how masks were finished.
    """

    name: str
    model: str
    image: ImageArray
    prediction: Prediction
    instance: int
    class_scores: FloatArray
    geometry: Geometry
    output: OutputSpec

    @classmethod
    def of(cls, seen: Seen, instance: int, class_scores: FloatArray, **parts: Any) -> Self:
        """The explanation of an instance of an image. parts: what the kind of explanation adds."""
        seen_parts = {name: getattr(seen, name) for name in ("name", "image", "prediction", "geometry", "output")}
        return cls(**seen_parts, model="", instance=instance, class_scores=class_scores, **parts)

    @property
    def class_name(self) -> str:
        """The class of the instance."""
        return self.prediction.classes[self.label]

    @property
    def label(self) -> int:
        """The label of the instance."""
        return int(self.prediction.labels[self.instance])

    @property
    def score(self) -> float:
        """The score of the instance."""
        return float(self.prediction.scores[self.instance])

    @property
    def mask(self) -> Masks | None:
        """The mask of the instance, one row; None where the model draws none."""
        return None if self.prediction.crops is None else self.prediction.crops[self.instance]

    @property
    def title(self) -> str:
        """One line for the head of the sheet."""
        return f"How {self.model} found this {self.class_name}: score {self.score:.2f}"

    @property
    def subtitle(self) -> str:
        """What was explained, in one line."""
        height, width = self.prediction.size
        count = len(self.prediction)
        what = f"instance {self.instance} of {count}, counted from 0, best first" if count > 1 else "the only instance"
        limit = f". {self.prediction.limit_note}" if self.prediction.limits else ""
        return f"{self.name or 'an image'}, {width} x {height} pixels; {what}{limit}"

    def panels(self) -> list[Panel]:
        """The steps, in order."""
        raise NotImplementedError

    def numbers(self) -> list[tuple[str, object]]:
        """What else is worth knowing, as name and value; the HTML page lists it."""
        height, width = self.geometry.size
        box = ", ".join(f"{v:.2f}" for v in self.prediction.boxes[self.instance])
        head = [("Input of the network", f"{width} x {height} pixels"), ("Box, image's pixels", box)]
        scores = zip([*self.prediction.classes, "background"], self.class_scores, strict=True)
        return [*head, *self.own_numbers(), *((f"Score of {name}", f"{score:.4f}") for name, score in scores)]

    def own_numbers(self) -> list[tuple[str, object]]:
        """Of `numbers`, those that only this kind of explanation has."""
        raise NotImplementedError

    def draw(self) -> ImageArray:
        """One image of all steps, (h, w, 3) uint8 RGB."""
        return sheet(self.title, self.subtitle, self.panels())

    def save(self, path: str | PathLike[str]) -> Path:
        """Write a .png, a .jpg, or an .html page that needs no other file; it appears whole or not at all.

        Raises ConfigError for another suffix, ImageError or OSError where the file cannot be written.
        """
        target = checked_suffix(path)
        if target.suffix.lower() != ".html":
            media.write_image(target, self.draw())
            return target
        with text_file(target) as file:
            file.write(self._page())
        return target

    def _page(self) -> str:
        panels = [_figure(k, panel) for k, panel in enumerate(self.panels(), 1)]
        return page(
            self.title, self.subtitle, [section("Step by step", [grid(panels)]), facts("Numbers", self.numbers())]
        )

    # ---- drawings that every model has --------------------------------------------------------------------------

    @property
    def extent(self) -> Window:
        """The whole image as a window."""
        return 0.0, 0.0, float(self.prediction.size[1]), float(self.prediction.size[0])

    @property
    def overview(self) -> Window:
        """The whole image; of one that is very long the part around the instance."""
        x0, y0, x1, y1 = self.extent
        reach = LONGEST * min(x1, y1) / 2
        left, top, right, bottom = (float(v) for v in self.prediction.boxes[self.instance])
        x = min(max((left + right) / 2, reach), x1 - reach) if x1 > 2 * reach else x1 / 2
        y = min(max((top + bottom) / 2, reach), y1 - reach) if y1 > 2 * reach else y1 / 2
        return max(x0, x - reach), max(y0, y - reach), min(x1, x + reach), min(y1, y + reach)

    def scene(self, window: Window | None = None) -> Drawing:
        """The overview of the image, or a part of it."""
        drawing = Drawing(window or self.overview)
        drawing.image(self.image, self.extent, smooth=False)
        return drawing

    def paint(self, drawing: Drawing, rows: Iterable[int], color: tuple[int, int, int], opacity: float) -> None:
        """Lay the masks of instances over a drawing of the image, or their boxes where there are none."""
        for k in rows:
            if self.prediction.crops is None:
                drawing.box(self.prediction.boxes[k], color, 1.5)
                continue
            crop, (top, left) = self.prediction.crops.bitmaps[k], self.prediction.crops.corners[k].tolist()
            if crop.size:
                extent = (float(left), float(top), float(left + crop.shape[1]), float(top + crop.shape[0]))
                fill = np.broadcast_to(np.array(color, np.uint8), (*crop.shape, 3))
                drawing.image(np.ascontiguousarray(fill), extent, mask=crop * opacity, smooth=False)

    def candidates_drawn(self, boxes: FloatArray, brightness: FloatArray, chosen: FloatArray) -> ImageArray:
        """The best boxes (N, 4), best first, in the colours of their brightness (N,) of 0 to 1; one (4,) is marked."""
        drawing = self.scene()
        drawing.fade(0.25)
        for box, color in zip(boxes[::-1], heat(brightness[::-1], 0.0, 1.0).tolist(), strict=True):
            drawing.box(box, tuple(color), 1.2, halo=False)
        drawing.mark(chosen, BEFORE, 3.0)
        return drawing.pixels()

    def mask_measured(self) -> str:
        """The end of a sentence on which pixels are the mask: what was kept of them, and how many these are."""
        kept = ", of which the largest part is kept" if self.output.largest_component else ""
        return f"{kept}." if self.mask is None else f"{kept}: {counted(int(self.mask.areas()[0]), 'pixel')}."

    def edge(self, drawing: Drawing) -> None:
        """Draw the border of the instance's mask, pixel by pixel, on a drawing of the image."""
        if self.mask is None:
            return
        crop, (top, left) = np.pad(self.mask.bitmaps[0], 1), self.mask.corners[0].tolist()
        for y, x in np.argwhere(crop[:, 1:] != crop[:, :-1]).tolist():
            drawing.line([(left + x, top + y - 1), (left + x, top + y)], EDGE, 2.0)
        for y, x in np.argwhere(crop[1:] != crop[:-1]).tolist():
            drawing.line([(left + x - 1, top + y), (left + x, top + y)], EDGE, 2.0)

    def class_bars(self) -> ImageArray:
        """The scores of the best classes as bars; the others together in one."""
        names, scores = [*self.prediction.classes, "background"], self.class_scores
        order = np.argsort(-scores[:-1], kind="stable")[:SHOWN_CLASSES].tolist()
        rows = [Bar(names[k], float(scores[k]), CHOSEN if k == self.label else OTHER) for k in order]
        if len(rows) < len(names) - 1:
            left = max(0.0, float(scores[:-1].sum()) - sum(row.value for row in rows))
            rows.append(Bar(f"{len(names) - 1 - len(rows)} others", left, PALE_BAR))
        return bars([*rows, Bar("background", float(scores[-1]), DARK_BAR)])

    def result_panel(self) -> Panel:
        """All instances, the explained one marked."""
        drawing = self.scene()
        others = [k for k in range(len(self.prediction)) if k != self.instance]
        self.paint(drawing, others, REST, 0.5)
        self.paint(drawing, [self.instance], CHOSEN, 0.75)
        drawing.mark(self.prediction.boxes[self.instance], CHOSEN, 2.0)
        what = "mask" if self.prediction.crops is not None else "box"
        text = f"The {what} in the image's own pixels, as predict gives it"
        text += f", with {counted(len(others), 'other instance')}." if others else "; nothing else was found."
        if self.overview != self.extent:
            text += " Only this part of the long image is shown."
        key = ((CHOSEN, f"this {self.class_name}"), (REST, "the others"))
        return Panel("The result", text, drawing.pixels(), key[: 2 if others else 1])


def checked_suffix(path: str | PathLike[str]) -> Path:
    """The path; ConfigError where its suffix is not one of those that an explanation is written as."""
    target = Path(path)
    if target.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"{target}: an explanation is written as {', '.join(SUFFIXES)}, got '{target.suffix}'.")
    if target.is_dir():
        raise ImageError(f"{target} is a folder; name a file.")
    return target


def _figure(number: int, panel: Panel) -> Html:
    jpeg = media.encoded(Image.fromarray(panel.image), "JPEG", quality=88, subsampling=0, optimize=True)
    key = "".join(f'<li><i style="background:rgb{color}"></i>{escape(text)}</li>' for color, text in panel.key)
    return Html(
        f'<figure class="chart"><figcaption>{number}. {escape(panel.title)}</figcaption>'
        f"<small>{escape(panel.text)}</small>"
        f'<img style="width:100%;height:auto;display:block;margin-top:6px" alt="{escape(panel.title)}" '
        f'src="{data_uri(jpeg, "jpeg")}">' + (f'<ul class="legend">{key}</ul>' if key else "") + "</figure>"
    )
