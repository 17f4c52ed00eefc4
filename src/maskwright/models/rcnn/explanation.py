"""How an R-CNN came to an instance: proposals, pooling, class, box, masks, landmarks.

Letters: K proposals, Q classes, M mask side, S pooled side, C channels, h w cells of a feature map.
In drawings of a feature map cell j covers [j, j+1); input pixels divided by the stride are such cells.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from maskwright.draw import colour_of
from maskwright.models.rcnn.heads import BOX_WEIGHTS
from maskwright.models.rcnn.network import RCNN, RCNNTrace
from maskwright.models.rcnn.pooling import Cropped, Pooling, pooling, read
from maskwright.models.rcnn.reader import Pooler
from maskwright.ops import boxes as box_ops
from maskwright.report.panels import (
    BEFORE,
    CHOSEN,
    EDGE,
    OTHER,
    WRONG,
    Drawing,
    Panel,
    Tile,
    Window,
    around,
    heat,
    tiles,
)
from maskwright.results.explanation import Explanation, Seen
from maskwright.types import Classes, FloatArray, IntArray
from maskwright.wording import counted

SHOWN_PROPOSALS, SHOWN_MASKS, SHOWN_KINDS = 100, 12, 6

BIN = (255, 90, 230)


@dataclass(frozen=True, eq=False)
class RCNNExplanation(Explanation):
    """How the R-CNN family came to an instance. Boxes are in the image's pixels.

    proposals (K, 4) and objectness (K,), best first; proposal: the row that became the instance. searched: they are
    selective search's, which has no objectness: all ones.
    rivals (R, 4): boxes of the same class, or across of any, that it suppressed, and no better one before it.
    box_pooling: how the proposal was read for class and box, a crop of the image in R-CNN; mask_pooling: how the final
    box was read for the mask. mask_probs (Q, M, M): the mask of every class inside the final box; the instance's label
    chooses. Both None for a model without masks. heat_maps (P, M, M): for each landmark the share of every cell of the
    final box; None without landmarks. nms: overlap above which the better box suppresses the other. input_box: the
    proposal in the network's input.
    """

    proposals: FloatArray
    objectness: FloatArray
    proposal: int
    rivals: FloatArray
    box_pooling: Pooling | Cropped
    mask_pooling: Pooling | None
    mask_probs: FloatArray | None
    nms: float
    input_box: FloatArray
    across: bool = False
    heat_maps: FloatArray | None = None
    searched: bool = False

    def panels(self) -> list[Panel]:
        steps = [self._proposals(), *self._read(self.box_pooling), self._classes(), self._box()]
        if self.mask_probs is not None:
            steps += [self._masks(), self._paste()]
        if self.heat_maps is not None and len(self.heat_maps):
            steps += [self._landmarks()]
        if self.prediction.semantic is not None and self.prediction.semantic_classes is not None:
            steps += [self._pixels(self.prediction.semantic, self.prediction.semantic_classes)]
        return [*steps, self.result_panel()]

    def own_numbers(self) -> list[tuple[str, object]]:
        sure = "" if self.searched else f", objectness {self.sureness:.3f}"
        return [
            ("Proposals", len(self.proposals)),
            ("Proposal that became this instance", f"number {self.proposal}{sure}"),
            *_read_as(self.box_pooling),
            ("Boxes of the same class it suppressed", len(self.rivals)),
        ]

    @property
    def sureness(self) -> float:
        """The objectness of the proposal that became the instance."""
        return float(self.objectness[self.proposal])

    # ---- panels -----------------------------------------------------------------------------------------------

    def _proposals(self) -> Panel:
        best = self.proposals[:SHOWN_PROPOSALS]
        brightness = 0.45 + 0.55 * self.objectness[: len(best)]
        image = self.candidates_drawn(best, brightness, self.proposals[self.proposal])
        which, title = counted(len(self.proposals), "box", "es"), "Proposals: where could objects be?"
        if self.searched:
            text = (
                "Selective search joined neighbouring regions that look alike, again and again, and kept the "
                f"{which} around them. The first {len(best)} are drawn; number {self.proposal} became the result."
            )
            return Panel(title, text, image, ((BEFORE, "this one"),))
        text = (
            f"A small network slides over the whole image and keeps {which} that "
            f"may hold anything at all. The best {len(best)} are drawn; number {self.proposal} became the result."
        )
        key = ((BEFORE, f"this one: {self.sureness:.2f} sure"), ((250, 225, 70), "surest"))
        return Panel(title, text, image, key)

    def _read(self, how: Pooling | Cropped) -> list[Panel]:
        """How the proposal was read, and how the other kind of pooling would have."""
        if isinstance(how, Cropped):
            return [self._crop(how)]
        both = [self._align(how), self._pool(how)]
        return [self._level(how), *(both if how.kind == "align" else reversed(both))]

    def _crop(self, crop: Cropped) -> Panel:
        side = len(crop.pixels)
        text = (
            f"R-CNN shares nothing: this box, with what is around it, is warped to {side} x {side} pixels, and the "
            f"whole network runs on them; {len(self.proposals)} times for this image."
        )
        return Panel("The crop that the network sees", text, tiles([Tile(crop.pixels, f"{side} x {side}", BEFORE)]))

    def _map(self, p: Pooling, window: Window, low: float | None = None, high: float | None = None) -> Drawing:
        energy = p.energy
        drawing = Drawing(window)
        extent = (0.0, 0.0, float(energy.shape[1]), float(energy.shape[0]))
        drawing.image(heat(energy, low, high), extent, smooth=False)
        return drawing

    def _level(self, p: Pooling) -> Panel:
        x0, y0, x1, y1 = (float(v) / p.stride for v in self.geometry.boxes(self.overview)[0])
        drawing = self._map(p, (x0, y0, x1, y1))
        drawing.mark(p.box, BEFORE, 3.0)
        wide, high = self.input_box[2] - self.input_box[0], self.input_box[3] - self.input_box[1]
        which = (
            f"The proposal is {wide:.0f} x {high:.0f} input pixels: level {p.level} of 0..{p.levels - 1} fits it"
            if p.levels > 1
            else f"The proposal is {wide:.0f} x {high:.0f} input pixels; there is one map"
        )
        text = f"{which}, where a cell stands for {p.stride:g} x {p.stride:g} pixels. Bright cells respond strongly."
        return Panel("The feature map it is read from", text, drawing.pixels(), ((BEFORE, "the proposal"),))

    def _close(self, p: Pooling) -> Drawing:
        """The feature map around the proposal, the cells' borders drawn."""
        both = [*np.minimum(p.box[:2], p.whole[:2]), *np.maximum(p.box[2:], p.whole[2:])]
        h, w = p.energy.shape
        window = around(both, (0.0, 0.0, float(w), float(h)), 0.15, 6)
        x0, y0, x1, y1 = math.floor(window[0]), math.floor(window[1]), math.ceil(window[2]), math.ceil(window[3])
        part = p.energy[y0:y1, x0:x1]
        drawing = self._map(p, window, float(part.min()), float(part.max()))
        if drawing.zoom > 10:
            drawing.cells(range(x0, x1 + 1), range(y0, y1 + 1), (70, 80, 110), 0.5)
        return drawing

    def _align(self, p: Pooling) -> Panel:
        drawing = self._close(p)
        edges = [np.linspace(p.box[k], p.box[k + 2], p.side + 1).tolist() for k in (0, 1)]
        drawing.cells(edges[0], edges[1], (255, 255, 255), 1.0)
        drawing.box(p.box, BEFORE, 2.5)
        x, y = (axis[p.side // 2 : p.side // 2 + 2] for axis in edges)
        if len(x) > 1:
            drawing.box((x[0], y[0], x[1], y[1]), BIN, 2.0)
        apart = drawing.zoom * min(abs(p.box[2] - p.box[0]) / p.x.size, abs(p.box[3] - p.box[1]) / p.y.size)
        drawing.dots(p.points, CHOSEN, min(4.0, max(1.0, apart / 6)))
        text = (
            f"The box is cut into {p.side} x {p.side} bins where it lies; nothing is rounded. Each bin averages "
            f"{p.y.shape[1]} x {p.x.shape[1]} points, and each point is interpolated from the four cells around it."
        )
        key = ((BEFORE, "the proposal"), (CHOSEN, "samples"), (BIN, "the middle bin"))
        title = "RoIAlign: how it is read" if p.kind == "align" else "RoIAlign, for comparison"
        return Panel(title, text, drawing.pixels(), key)

    def _pool(self, p: Pooling) -> Panel:
        drawing = self._close(p)
        x0, y0, x1, y1 = p.whole.tolist()
        drawing.cells(np.arange(x0, x1 + 1).tolist(), np.arange(y0, y1 + 1).tolist(), (255, 255, 255), 1.0)
        drawing.box(p.whole, WRONG, 2.5)
        drawing.box(p.box, BEFORE, 2.5)
        middle = p.side // 2
        columns, rows = p.columns[middle], p.rows[middle]
        if columns[1] > columns[0] and rows[1] > rows[0]:
            drawing.box((columns[0], rows[0], columns[1], rows[1]), BIN, 2.0)
        used = p.kind == "pool"
        what, moves = ("RoIPool", "moves") if used else ("The older RoIPool", "would move")
        text = (
            f"{what} rounds the box to whole cells, and a bin takes the greatest of whole cells. Here that {moves} a "
            f"side by up to {p.shift:.1f} input pixels: too coarse for exact masks."
        )
        key = ((BEFORE, "the proposal"), (WRONG, "rounded"), (BIN, "the middle bin"))
        title = "RoIPool: how it is read" if used else "RoIPool, for comparison"
        return Panel(title, text, drawing.pixels(), key)

    def _classes(self) -> Panel:
        count = len(self.prediction.classes)
        what = "the one class" if count == 1 else f"all {count} classes"
        text = f"From the pooled numbers a class is chosen. The scores of {what} and of background sum to 1."
        return Panel("Class: what is it?", text, self.class_bars())

    def _box(self) -> Panel:
        box, start = self.prediction.boxes[self.instance], self.proposals[self.proposal]
        both = [*np.minimum(box[:2], start[:2]), *np.maximum(box[2:], start[2:])]
        drawing = self.scene(around(both, self.extent, 0.35, 8))
        drawing.fade(0.15)
        for rival in self.rivals[:40]:
            drawing.box(rival, OTHER, 1.0, halo=False)
        drawing.box(start, BEFORE, 2.5)
        drawing.box(box, CHOSEN, 3.0)
        moved = float(np.abs(box - start).max())
        of = "any" if self.across else "this"
        rest = (
            f"{counted(len(self.rivals), 'box', 'es')} of {of} class overlapped it by more than {self.nms:g} with a "
            "lower score and were suppressed."
            if len(self.rivals)
            else f"No other box of {of} class overlapped it enough to be suppressed."
        )
        far = f"up to {moved:.1f} pixels" if moved >= 0.1 else "less than 0.1 pixels, so that the two are one here"
        text = f"The same numbers also say how to move the proposal's sides: here by {far}. {rest}"
        key = ((BEFORE, "proposal"), (CHOSEN, "final box"), (OTHER, "suppressed"))
        return Panel("Box: where exactly?", text, drawing.pixels(), key[: 3 if len(self.rivals) else 2])

    def _masks(self) -> Panel:
        assert self.mask_probs is not None
        assert self.mask_pooling is not None
        names, side = self.prediction.classes, self.mask_pooling.side
        order = [self.label, *(k for k in np.argsort(-self.class_scores[:-1], kind="stable") if k != self.label)]
        items = [
            Tile(heat(self.mask_probs[k], 0.0, 1.0), names[k], CHOSEN if k == self.label else None)
            for k in order[:SHOWN_MASKS]
        ]
        m = self.mask_probs.shape[-1]
        shown = "" if len(names) <= SHOWN_MASKS else f" ({SHOWN_MASKS} are shown)"
        each = f"one for each of the {len(names)} classes{shown}" if len(names) > 1 else "one, as there is one class"
        text = (
            f"The final box is read again with {side} x {side} bins for a mask of {m} x {m} probabilities: {each}. "
            "The predicted class chooses; the masks do not compete."
        )
        return Panel("One mask for each class", text, tiles(items), ((CHOSEN, f"chosen: {self.class_name}"),))

    def _landmarks(self) -> Panel:
        assert self.heat_maps is not None
        assert self.prediction.keypoints is not None
        marks, points = self.prediction.classes.landmarks[self.label], self.prediction.keypoints[self.instance]
        names = [str(k) for k in range(len(self.heat_maps))] if marks is None else list(marks.names)
        items = [
            Tile(heat(maps / maps.max(), 0.0, 1.0), f"{name} {score:.2f}", CHOSEN)
            for maps, name, score in zip(self.heat_maps[:SHOWN_MASKS], names, points[:, 2], strict=False)
        ]
        shown = "" if len(names) <= SHOWN_MASKS else f" ({SHOWN_MASKS} are shown)"
        text = (
            f"The final box is read again for a map of each of the class's {len(names)} landmarks{shown}. The cells of "
            "a map compete; where it is highest is the landmark, and the number is the share of that peak."
        )
        return Panel("One heat map for each landmark", text, tiles(items))

    def _pixels(self, labels: IntArray, classes: Classes) -> Panel:
        """The answer of the semantic branch."""
        shades = np.array([colour_of(k) for k in range(len(classes))], np.uint8)
        drawing = self.scene()
        drawing.image(shades[labels.clip(0)], self.extent, mask=np.where(labels < 0, 0.0, 0.6), smooth=False)
        counts = np.bincount(labels[labels >= 0].reshape(-1), minlength=len(classes))
        most = [k for k in np.argsort(-counts, kind="stable")[:SHOWN_KINDS].tolist() if counts[k]]
        key = tuple((colour_of(k), f"{classes[k]} {counts[k] / labels.size:.0%}") for k in most)
        text = (
            "The semantic branch reads all maps of the pyramid and names the class of every pixel; all things are one "
            "class. Where its map and the instances meet, the instances are on top."
        )
        return Panel("The class of every pixel", text, drawing.pixels(), key)

    def _paste(self) -> Panel:
        assert self.mask_probs is not None
        box = self.prediction.boxes[self.instance]
        drawing = self.scene(around(box, self.extent, 0.2, 6))
        probs = self.mask_probs[self.label]
        extent = tuple(float(v) for v in box)
        drawing.image(heat(probs, 0.0, 1.0), extent, mask=np.full(probs.shape, 0.6), smooth=True)  # type: ignore[arg-type]
        self.edge(drawing)
        drawing.box(box, CHOSEN, 2.0)
        text = (
            "The chosen mask is stretched over the box; pixels with a probability of at least "
            f"{self.output.mask_threshold:g} belong to it{self.mask_measured()}"
        )
        return Panel("Onto the image", text, drawing.pixels(), ((CHOSEN, "box"), (EDGE, "edge of the mask")))


def _read_as(how: Pooling | Cropped) -> list[tuple[str, object]]:
    """How the proposal was read, as rows of a table."""
    if isinstance(how, Cropped):
        return [("Crop", f"{len(how.pixels)} x {len(how.pixels)} pixels, a pass of the whole network")]
    used = how.kind == "pool"
    bins = f"{how.side} x {how.side} bins"
    samples = "" if used else f", {how.y.shape[1]} x {how.x.shape[1]} samples each"
    return [
        ("Feature map", f"level {how.level} of {how.levels} (0 is the finest), {how.stride:g} input pixels a cell"),
        ("RoIPool" if used else "RoIAlign", f"{bins}{samples}"),
        (f"RoIPool {'moves' if used else 'would move'} the box by up to", f"{how.shift:.2f} input pixels"),
    ]


# ---- from the trace --------------------------------------------------------------------------------------------------


@torch.inference_mode()
def explain(seen: Seen, instance: int) -> RCNNExplanation:
    """The explanation of an instance from what the stages returned."""
    model, trace = seen.model, seen.trace
    assert isinstance(model, RCNN)
    assert isinstance(trace, RCNNTrace)
    row, back, config = seen.rows[instance], seen.geometry.inverse(), model.config
    proposals, live = trace.proposals.of(0), trace.proposals.alive[0]
    objectness, scores, deltas = trace.proposals.scores[0][live], trace.scores[0][live], trace.deltas[0][live]
    found = trace.found
    box, label, own = found.boxes[0, row], int(found.labels[0, row]), int(found.origin[0, row])
    mask_pooling, probs = None, None
    if (mask := model.mask_branch) is not None:
        first = torch.zeros(1, dtype=torch.int64, device=box.device)
        assert isinstance(mask.reader.pooler, Pooler)
        mask_pooling = pooling(mask.reader.pooler, trace.features, box)
        probs = mask.head.all_classes(mask.reader(trace.features, box[None], first))[0].float().sigmoid().cpu().numpy()
    heat_maps = None
    if trace.keypoints is not None:
        logits = trace.keypoints.logits[0, row][: int(trace.keypoints.counts[0, row])].float()
        heat_maps = logits.flatten(1).softmax(dim=1).view_as(logits).cpu().numpy()
    searched = config.box_search is not None
    sure = objectness.float() if searched or config.rpn.rank_by == "probability" else objectness.float().sigmoid()
    classes = list(range(deltas.shape[1])) if seen.limits.nms == "cross" else [label]
    anchored = proposals.repeat_interleave(len(classes), dim=0)  # each proposal has a box for each class
    boxes = box_ops.decode(deltas[:, classes].flatten(0, 1), anchored, BOX_WEIGHTS)
    decoded = box_ops.clip(boxes, seen.geometry.size)
    lost = _suppressed(row, decoded, scores[:, classes].flatten(), trace, seen)
    lost[own * len(classes) + classes.index(label)] = False
    return RCNNExplanation.of(
        seen,
        instance,
        scores[own].cpu().numpy(),
        proposals=back.boxes(proposals.float().cpu().numpy()),
        objectness=sure.cpu().numpy(),
        proposal=own,
        rivals=back.boxes(decoded[lost].float().cpu().numpy()),
        box_pooling=read(model.box_branch.reader.pooler, trace.features, proposals[own], config.spec),
        mask_pooling=mask_pooling,
        mask_probs=probs,
        nms=config.roi.nms,
        across=seen.limits.nms == "cross",
        heat_maps=heat_maps,
        searched=searched,
        input_box=proposals[own].float().cpu().numpy(),
    )


def _suppressed(row: int, boxes: Tensor, scores: Tensor, trace: RCNNTrace, seen: Seen) -> Tensor:
    """Which of the boxes that were compared with the detection it suppressed, and no better one before it."""
    found, iou = trace.found, seen.model.config.roi.nms
    value, same = found.scores[0, row], found.labels[0] == found.labels[0, row]
    better = found.boxes[0][(same | (seen.limits.nms == "cross")) & (found.scores[0] > value)]
    over = box_ops.iou(boxes.double(), torch.cat([found.boxes[0, row][None], better]).double()) > iou  # as in `ops.nms`
    lost: Tensor = over[:, 0] & ~over[:, 1:].any(dim=1) & (scores > seen.limits.score) & (scores <= value)
    return lost


def best_score(trace: RCNNTrace) -> float | None:
    """The highest class score of any proposal; None where there was none."""
    scores = trace.scores[trace.proposals.alive][:, :-1]
    return float(scores.max()) if len(scores) else None
