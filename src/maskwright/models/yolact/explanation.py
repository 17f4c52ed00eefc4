"""How YOLACT came to an instance: class, box and coefficients of one prior, prototypes, their signed sum, the crop.

Letters: N priors, Q classes, D prototypes, h w cells of the prototypes' map, which spans the whole input.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from maskwright.models.yolact.loss import BOX_WEIGHTS
from maskwright.models.yolact.network import Yolact, YolactTrace
from maskwright.models.yolact.suppression import Suppression, suppressed
from maskwright.ops import boxes as box_ops
from maskwright.ops import prototypes as prototype_ops
from maskwright.report.panels import (
    BEFORE,
    CHOSEN,
    EDGE,
    HEIGHT,
    OTHER,
    WIDTH,
    WRONG,
    Bar,
    Color,
    Drawing,
    Panel,
    Tile,
    Window,
    around,
    bars,
    heat,
    signed,
    tiles,
)
from maskwright.results.explanation import Explanation, Seen
from maskwright.types import BoolArray, FloatArray
from maskwright.wording import counted

SHOWN_CANDIDATES, SHOWN_BARS, MARKED = 150, 32, 6
PLUS: Color = (195, 50, 25)
MINUS: Color = (30, 80, 190)


@dataclass(frozen=True, eq=False)
class YolactExplanation(Explanation):
    """How YOLACT and YOLACT++ came to an instance. Boxes are in the image's pixels where nothing else is said.

    candidates (M, 4) and candidate_scores (M,): all boxes that may become results, best first, before suppression;
    priors: N. prior (4,): where the instance's began. suppression: see there.
    prototypes (h, w, D); coefficients (D,): their weighted sum is `logits` (h, w); order (D,): the strongest first,
    by |coefficient| x mean prototype inside the crop. window (h, w): the cells that box and margin cover. cell_box
    (4,): the box in cells. rating: YOLACT++'s estimate of how well the mask fits, a factor on the score, or None.
    A cell covers `step` (x, y) pixels of the input.
    """

    candidates: FloatArray
    candidate_scores: FloatArray
    priors: int
    prior: FloatArray
    suppression: Suppression
    prototypes: FloatArray
    coefficients: FloatArray
    order: NDArray[np.int64]
    logits: FloatArray
    window: BoolArray
    cell_box: FloatArray
    rating: float | None
    step: tuple[float, float]

    def partial(self, count: int) -> FloatArray:
        """(h, w): the sum of the `count` strongest prototypes, each times its coefficient."""
        rows = self.order[:count]
        return np.asarray(self.prototypes[..., rows] @ self.coefficients[rows])

    def enlarged(self, top: int, left: int, bottom: int, right: int) -> FloatArray:
        """(bottom - top, right - left): `logits` at the centres of these pixels of the image, as `upsample` "logits"
        enlarges them: bilinear, beyond the map its border."""
        values: NDArray[np.floating[Any]] = self.logits
        for axis, (begin, end) in enumerate(((top, bottom), (left, right))):
            pixels = np.repeat(np.arange(begin, end)[:, None] + 0.5, 2, axis=1)
            centre = self.geometry.points(pixels)[:, 1 - axis] / self.step[1 - axis]
            place = np.clip(centre - 0.5, 0, len(values) - 1)
            low = place.astype(np.int64)
            high, share = np.minimum(low + 1, len(values) - 1), (place - low)[:, None]
            values = (values[low] * (1 - share) + values[high] * share).T
        return np.asarray(values, np.float32)

    @property
    def crop(self) -> Window:
        """The rectangle of the image's pixels outside of which the mask is cut off at the image's resolution, as
        `upsample` "logits" does: pixels whose centre lies outside."""
        margin, (x0, y0, x1, y1) = self.output.crop_margin, self.extent
        if math.isinf(margin):
            return self.extent
        low, high = np.minimum(self.cell_box[:2], self.cell_box[2:]), np.maximum(self.cell_box[:2], self.cell_box[2:])
        a, b, c, d = self._framed([*(low - margin), *(high + margin)])
        return max(a, x0), max(b, y0), min(c, x1), min(d, y1)

    def panels(self) -> list[Panel]:
        steps = [self._candidates(), self._nms(), self._classes(), self._prototypes(), self._coefficients()]
        return [*steps, self._sums(), self._crop(), self._paste(), self.result_panel()]

    def own_numbers(self) -> list[tuple[str, object]]:
        h, w, count = self.prototypes.shape
        out: list[tuple[str, object]] = [
            ("Priors", self.priors),
            ("Candidates before suppression", len(self.candidates)),
            ("Prototypes", f"{count} of {w} x {h} cells, {self.step[0]:g} x {self.step[1]:g} input pixels each"),
            ("Boxes it suppressed", len(self.suppression.lost)),
        ]
        if self.suppression.kind != "exact":
            out.append(("Boxes that greedy suppression would have kept", len(self.suppression.only_fast)))
        if self.rating is not None:
            out.append(("Rating of the mask", f"{self.rating:.4f}"))
        return [*out, *((f"Coefficient of prototype {k}", f"{self.coefficients[k]:+.4f}") for k in self.order)]

    # ---- frames -----------------------------------------------------------------------------------------------

    def _framed(self, cells: Sequence[float] | NDArray[Any]) -> Window:
        """A rectangle of cells in the image's pixels."""
        x, y = self.step
        back = self.geometry.inverse().boxes(np.asarray(cells, np.float64) * (x, y, x, y))[0]
        return float(back[0]), float(back[1]), float(back[2]), float(back[3])

    def _map(self, colors: NDArray[np.uint8], window: Window, width: int = WIDTH, height: int = HEIGHT) -> Drawing:
        """A map's colours (h, w, 3) where they lie on the image, in a window of it."""
        h, w = self.logits.shape
        drawing = Drawing(window, width, height)
        drawing.image(colors, self._framed((0, 0, w, h)), smooth=False)
        return drawing

    # ---- panels -----------------------------------------------------------------------------------------------

    def _candidates(self) -> Panel:
        best = self.candidates[:SHOWN_CANDIDATES]
        image = self.candidates_drawn(best, 0.35 + 0.65 * self.candidate_scores[: len(best)], self.prior)
        text = (
            f"In one pass each of {self.priors} priors (places and sizes) predicts a class, a box and "
            f"{len(self.coefficients)} coefficients. {counted(len(self.candidates), 'box', 'es')} may be something"
        )
        text += f"; the best {len(best)} are drawn." if len(best) < len(self.candidates) else "."
        key = ((BEFORE, "the prior of this result"), ((250, 225, 70), "surest"))
        return Panel("All priors predict at once", text, image, key)

    def _nms(self) -> Panel:
        s, box = self.suppression, self.prediction.boxes[self.instance]
        drawing = self.scene(around(box, self.extent, 0.5, 8))
        drawing.fade(0.15)
        for rival in s.lost[:60]:
            drawing.box(rival, OTHER, 1.0, halo=False)
        near = [lost for lost in s.only_fast if drawing.shows(lost)]
        for lost in near[:60]:
            drawing.box(lost, WRONG, 1.5, halo=False)
        drawing.box(self.prior, BEFORE, 2.0)
        drawing.box(box, CHOSEN, 3.0)
        name = "Greedy NMS" if s.kind == "exact" else "Fast NMS"
        rule = f"{s.iou:g} or more, end pixels counted," if s.kind == "exact" else f"more than {s.iou:g}"
        were = "was" if len(s.lost) == 1 else "were"
        compared = s.taking_part(self.prediction.classes[self.label])
        text = f"{compared} {len(s.lost)} overlapped this one by {rule} and {were} suppressed."
        if s.kind != "exact":
            text += (
                " A suppressed box still suppresses others, so that one matrix is enough: in this image "
                f"{counted(len(s.only_fast), 'box', 'es')} would otherwise have been kept"
            )
            text += f", {len(near) or 'none'} of them here." if len(s.only_fast) else "."
        key = (
            (BEFORE, "prior"),
            (CHOSEN, "its box"),
            (OTHER, "suppressed by it"),
            (WRONG, "suppressed by a suppressed box"),
        )
        return Panel(f"{name}: one box for each object", text, drawing.pixels(), key[: 4 if near else 3])

    def _classes(self) -> Panel:
        text = "The same prior names the class; the scores, with that of background, sum to 1."
        if self.rating is not None:
            text += f" Later the finished mask is rated {self.rating:.2f}, and the score becomes {self.score:.2f}."
        return Panel("Class: what is it?", text, self.class_bars())

    def _prototypes(self) -> Panel:
        marked = {int(k): (PLUS if self.coefficients[k] > 0 else MINUS) for k in self.order[:MARKED]}
        maps = (
            self._map(heat(self.prototypes[..., k]), self.overview, 260, 220) for k in range(len(self.coefficients))
        )
        items = [Tile(drawing.pixels(), str(k), marked.get(k)) for k, drawing in enumerate(maps)]
        text = (
            f"Beside it the network draws {len(items)} maps of the whole image that know nothing of single objects. "
            f"The {len(marked)} that matter most to this one are framed."
        )
        return Panel("Prototypes", text, tiles(items), ((PLUS, "added"), (MINUS, "taken away")))

    def _coefficients(self) -> Panel:
        shown = self.order[:SHOWN_BARS]
        rows = [
            Bar(f"prototype {k}", float(self.coefficients[k]), PLUS if self.coefficients[k] > 0 else MINUS, f"{v:+.2f}")
            for k, v in zip(shown.tolist(), self.coefficients[shown], strict=True)
        ]
        text = (
            "How much of each prototype this object is made of, between -1 and 1. First those that count most here: "
            "the number times how bright its prototype is inside the box. Each object has other numbers."
        )
        return Panel("Its coefficients", text, bars(rows), ((PLUS, "added"), (MINUS, "taken away")))

    def _sums(self) -> Panel:
        count = len(self.coefficients)
        steps = [n for n in (1, 2, 4, 8, 16, 32, 64) if n < count][-5:]
        most = float(np.abs(self.logits[self.window]).max(initial=1e-6))
        items = []
        for n in [*steps, count]:
            drawing = self._map(signed(self.partial(n), most), self.overview, 260, 220)
            drawing.box(self._framed(self.cell_box), CHOSEN, 2.0)
            items.append(Tile(drawing.pixels(), f"all {count}" if n == count else f"{n} strongest"))
        text = "Prototypes times coefficients, summed up, the strongest first: red says inside, blue says outside."
        return Panel("The sum builds up", text, tiles(items, smooth=True), ((CHOSEN, "its box"),))

    def _crop(self) -> Panel:
        if self.output.upsample == "logits":
            return self._fine_crop()
        rows, columns = np.flatnonzero(self.window.any(axis=1)), np.flatnonzero(self.window.any(axis=0))
        h, w = self.logits.shape
        box = self._framed(self.cell_box)
        drawing = self._map(heat(_sigmoid(self.logits), 0.0, 1.0), around(box, self.extent, 0.6, 8))
        white = np.full((h, w, 3), 255, np.uint8)
        outside = np.where(self.window, 0.0, 0.62)
        drawing.image(white, self._framed((0, 0, w, h)), mask=outside, smooth=False)
        drawing.box(box, CHOSEN, 2.5)
        if len(rows) and len(columns):
            drawing.box(self._framed((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)), BEFORE, 2.0)
        text = f"The sigmoid makes probabilities of the sum. {self._cut()}"
        return Panel("Sigmoid and crop", text, drawing.pixels(), ((CHOSEN, "box"), (BEFORE, "crop, whole cells")))

    def _fine_crop(self) -> Panel:
        """The crop at the image's resolution, of what was enlarged before."""
        box = self._framed(self.cell_box)
        drawing = Drawing(around(box, self.extent, 0.6, 8))
        left, top, right, bottom = (
            int(f(v)) for f, v in zip((math.floor, math.floor, math.ceil, math.ceil), drawing.window, strict=True)
        )
        extent = (float(left), float(top), float(right), float(bottom))
        probs = _sigmoid(self.enlarged(top, left, bottom, right))
        drawing.image(heat(probs, 0.0, 1.0), extent, smooth=False)
        x0, y0, x1, y1 = self.crop
        x, y = np.arange(left, right) + 0.5, np.arange(top, bottom)[:, None] + 0.5
        inside = (x >= x0) & (x < x1) & (y >= y0) & (y < y1)
        white = np.full((*probs.shape, 3), 255, np.uint8)
        drawing.image(white, extent, mask=np.where(inside, 0.0, 0.62), smooth=False)
        drawing.box(box, CHOSEN, 2.5)
        drawing.box(self.crop, BEFORE, 2.0)
        text = (
            f"The sum is enlarged to the image's own pixels first; the sigmoid makes probabilities of it. {self._cut()}"
        )
        key = ((CHOSEN, "box"), (BEFORE, "crop, pixels of the image"))
        return Panel("Enlarge, sigmoid and crop", text, drawing.pixels(), key)

    def _cut(self) -> str:
        """How much of the mask the crop removes, as a sentence."""
        margin = self.output.crop_margin
        if math.isinf(margin):
            return "Nothing is cut off: the crop margin is infinite."
        edge = f"the box and {margin:g} {'cell' if margin == 1 else 'cells'} around it" if margin else "the box"
        return f"What lies outside {edge} is cut off: the sum may light up on neighbours too."

    def _paste(self) -> Panel:
        box = self.prediction.boxes[self.instance]
        drawing = self.scene(around(box, self.extent, 0.35, 8))
        self.paint(drawing, [self.instance], CHOSEN, 0.4)
        self.edge(drawing)
        drawing.box(box, CHOSEN, 2.0)
        start = "Pixels" if self.output.upsample == "logits" else "Enlarged to the image, pixels"
        text = f"{start} above {self.output.mask_threshold:g} are the mask{self.mask_measured()}"
        if self.rating is not None:
            text += (
                f" A small network looks at the mask alone and rates it {self.rating:.2f}; class score times rating "
                f"is {self.score:.2f}."
            )
        return Panel("Onto the image", text, drawing.pixels(), ((CHOSEN, "box"), (EDGE, "edge of the mask")))


def _sigmoid(values: FloatArray) -> FloatArray:
    return np.asarray(1 / (1 + np.exp(-np.clip(values, -60, 60))), np.float32)


# ---- from the trace --------------------------------------------------------------------------------------------------


@torch.inference_mode()
def explain(seen: Seen, instance: int) -> YolactExplanation:
    """The explanation of an instance from what the stages returned."""
    model, trace = seen.model, seen.trace
    assert isinstance(model, Yolact)
    assert isinstance(trace, YolactTrace)
    row, back, found, priors = seen.rows[instance], seen.geometry.inverse(), trace.found, trace.priors
    box, value = found.boxes[0, row].float(), float(found.scores[0, row])
    label, own, coefficients = int(found.labels[0, row]), int(found.origin[0, row]), trace.coefficients[0, row]
    scores = trace.outputs.logits[0].float().softmax(dim=1)  # (N, Q + 1)
    boxes = box_ops.decode(trace.outputs.deltas[0], priors, BOX_WEIGHTS)
    near = torch.nonzero(scores[:, :-1].amax(dim=1) > seen.limits.score).flatten()
    best, order = scores[near, :-1].amax(dim=1).sort(descending=True, stable=True)
    prototypes, span = trace.prototypes[0].float(), trace.span
    shape = (prototypes.shape[0], prototypes.shape[1])
    window = prototype_ops.window(box[None], shape, span, seen.output.crop_margin)[0]
    step = (span[1] / shape[1], span[0] / shape[0])
    strength = coefficients.abs() * (prototypes.abs()[window].mean(dim=0) if window.any() else prototypes.mean((0, 1)))
    return YolactExplanation.of(
        seen,
        instance,
        scores[own].cpu().numpy(),
        candidates=back.boxes(boxes[near][order].cpu().numpy()),
        candidate_scores=best.cpu().numpy(),
        priors=len(priors),
        prior=back.boxes(priors[own].float().cpu().numpy())[0],
        suppression=suppressed(boxes[near], scores[near, :-1], label, box, value, model.config, seen.limits, back),
        prototypes=prototypes.cpu().numpy(),
        coefficients=coefficients.cpu().numpy(),
        order=strength.argsort(descending=True, stable=True).cpu().numpy(),
        logits=prototype_ops.logits(prototypes, coefficients[None])[0].cpu().numpy(),
        window=window.cpu().numpy(),
        cell_box=(box / box.new_tensor([*step, *step])).cpu().numpy(),
        rating=None if trace.ratings is None else float(trace.ratings[0, row]),
        step=step,
    )


def best_score(trace: YolactTrace) -> float | None:
    """The highest class score of any prior."""
    logits = trace.outputs.logits
    return float(logits.float().softmax(dim=2)[..., :-1].max()) if logits.shape[1] else None
