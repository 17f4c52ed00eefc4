"""Make the images of docs/how-it-works.md: two small models learn synthetic scenes, then explain what they found.

    python docs/images/how.py --models runs/how

The models are trained for some minutes if they are not in the folder yet; the images lie beside this file.
"""

import argparse
import io
import math
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

import maskwright as mw
from maskwright import draw
from maskwright.data.synthetic import class_names, compose, scene
from maskwright.explanation.explain import explain
from maskwright.models import rcnn, yolact, zoo
from maskwright.models.base import AnyModel
from maskwright.ops.boxes import iou
from maskwright.ops.nms import batched_nms, fast_nms
from maskwright.predictor.prepare import prepare
from maskwright.report.panels import BEFORE, CHOSEN, INK, SOFT, Color, sheet
from maskwright.results.explanation import Explanation
from maskwright.types import Inputs, InputSpec, Target
from maskwright.weights.files import save_checkpoint

HERE = Path(__file__).parent
SIZE, OBJECTS, CLASSES = (128, 160), 4, 3
SPEC = InputSpec(size=128, max_size=None, resize="pillow")
MOST_BYTES = 190_000
TITLES = {"mask_rcnn": "a small Mask R-CNN", "yolact": "a small YOLACT"}


def mask_rcnn() -> AnyModel:
    """A Mask R-CNN as small as it can be."""
    base = rcnn.compact(CLASSES)
    rpn = replace(base.rpn, sizes=((16.0,), (32.0,), (56.0,), (90.0,)), before=200, after=100)
    rpn = replace(rpn, train_before=200, train_after=80, samples=64)
    roi = replace(base.roi, box_width=128, mask_width=48, keep=30, samples=32)
    return rcnn.RCNN(replace(base, backbone="resnet18_half", channels=48, rpn=rpn, roi=roi, spec=SPEC))


def small_yolact() -> AnyModel:
    """A YOLACT as small as it can be."""
    base = yolact.compact(CLASSES)
    sizes = tuple((side, side * 2**0.5) for side in (16.0, 28.0, 48.0, 80.0))
    return yolact.Yolact(replace(base, channels=48, prototypes=16, sizes=sizes, spec=SPEC))


MODELS = {"mask_rcnn": (mask_rcnn, 2e-3), "yolact": (small_yolact, 2e-3)}


def batches(count: int, size: int = 4) -> Iterator[tuple[torch.Tensor, list[Target]]]:
    """Scenes nobody sees twice, as network inputs with their truth."""
    for step in range(count):
        inputs, targets = [], []
        for k in range(size):
            image, truth = scene(1000 + step * size + k, SIZE, OBJECTS, CLASSES)
            inputs.append(prepare(image, SPEC)[0])
            targets.append(Target(torch.from_numpy(truth.boxes), torch.from_numpy(truth.labels), truth.crops))
        yield torch.stack(inputs), targets


def train(model: AnyModel, steps: int, rate: float) -> None:
    """A plain loop: AdamW, the rate rises for a while and falls along a cosine."""
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.02)
    model.train()
    start = time.process_time()
    for step, (images, targets) in enumerate(batches(steps)):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, (step + 1) / 50) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        losses = model.loss(Inputs(images, [SIZE] * len(images)), targets, torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        sum(losses.values(), torch.zeros(())).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        if step % 50 == 0 or step == steps - 1:
            terms = " ".join(f"{name} {value.item():.3f}" for name, value in losses.items())
            print(f"step {step} | {terms} | {time.process_time() - start:.0f} s of computing", flush=True)
    model.eval()


def predictor(name: str, folder: Path, steps: int) -> mw.Predictor:
    """The trained model, which learns first if it is not in the folder."""
    path = folder / f"{name}.safetensors"
    if not path.exists():
        torch.manual_seed(0)
        build, rate = MODELS[name]
        model = build()
        train(model, steps, rate)
        save_checkpoint(path, model.state_dict(), zoo.describe(model.config, class_names(CLASSES), name))
    return mw.load(path)


# ---- images -------------------------------------------------------------------------------------------------------


def keep(name: str, image: np.ndarray, width: int = 1400) -> None:
    """Write docs/images/how_NAME.jpg, at most `width` wide, in the best quality that keeps it small."""
    source_image = Image.fromarray(image)
    if source_image.width > width:
        source_image = source_image.resize(
            (width, round(source_image.height * width / source_image.width)), Image.Resampling.LANCZOS
        )
    for quality in (88, 80, 72, 64, 56):
        stream = io.BytesIO()
        source_image.save(stream, "JPEG", quality=quality, optimize=True)
        if stream.tell() <= MOST_BYTES:
            break
    path = HERE / f"how_{name}.jpg"
    path.write_bytes(stream.getvalue())
    print(f"{path.name}: {source_image.width} x {source_image.height}, {stream.tell() // 1000} kB, quality {quality}")


def text(pen: ImageDraw.ImageDraw, at: tuple[float, float], words: str, size: int, color: Color = INK) -> None:
    """Words whose middle is at a point."""
    pen.text(at, words, fill=color, font=ImageFont.load_default(size), anchor="mm")


def best_of(name: str, p: mw.Predictor, label: int, seeds: range) -> Explanation:
    """The explanation of the surest large instance of a class, nothing cut off, among scenes that were not learnt."""
    found = []
    for seed in seeds:
        image = scene(seed, SIZE, OBJECTS, CLASSES)[0]
        result = p.predict(image)
        for k in np.flatnonzero(result.labels == label).tolist():
            box = result.boxes[k]
            inside = box[0] > 3 and box[1] > 3 and box[2] < SIZE[1] - 3 and box[3] < SIZE[0] - 3
            large = 40 < max(box[2] - box[0], box[3] - box[1]) < 75
            if inside and large:
                found.append((float(result.scores[k]), seed, k))
    score, seed, k = max(found)
    print(f"{name}: scene {seed}, instance {k}, score {score:.3f}")
    return replace(
        explain(p, scene(seed, SIZE, OBJECTS, CLASSES)[0], k), name=f"synthetic scene {seed}", model=TITLES[name]
    )


def family() -> None:
    """R-CNN, Fast, Faster and Mask R-CNN as four rows of boxes: what runs once, what for each region, what is new."""
    rows = (
        ("R-CNN, 2013", (("image", 0), ("2000 regions from outside", 0), ("crop each", 1), ("CNN for each crop", 1),
                         ("class, box", 1))),
        ("Fast R-CNN, 2015", (("image", 0), ("CNN once", 2), ("2000 regions from outside", 0), ("RoIPool", 3),
                              ("class, box", 1))),
        ("Faster R-CNN, 2015", (("image", 0), ("CNN once", 0), ("proposals by a network", 2), ("RoIPool", 1),
                                ("class, box", 1))),
        ("Mask R-CNN, 2017", (("image", 0), ("CNN once", 0), ("proposals by a network", 0), ("RoIAlign", 3),
                              ("class, box", 1), ("a mask for each class", 3))),
    )  # fmt: skip
    colors = ((225, 232, 242), (252, 226, 205), (120, 175, 245), (250, 150, 70))
    canvas = Image.new("RGB", (1400, 560), (255, 255, 255))
    pen = ImageDraw.Draw(canvas)
    for r, (name, steps) in enumerate(rows):
        y, x = 62 + 120 * r, 245
        pen.text((20, y), name, fill=INK, font=ImageFont.load_default(23), anchor="lm")
        for k, (step, kind) in enumerate(steps):
            wide = 26 + pen.textlength(step, font=ImageFont.load_default(19))
            pen.rounded_rectangle((x, y - 30, x + wide, y + 30), 10, fill=colors[kind])
            text(pen, (x + wide / 2, y), step, 19)
            if k < len(steps) - 1:
                pen.line((x + wide, y, x + wide + 26, y), fill=SOFT, width=3)
                pen.polygon(((x + wide + 34, y), (x + wide + 22, y - 7), (x + wide + 22, y + 7)), fill=SOFT)
            x += wide + 34
    legend = ("once an image", "for each region", "new, once an image", "new, for each region")
    x = 20.0
    for color, words in zip(colors, legend, strict=True):
        pen.rounded_rectangle((x, 512, x + 28, 536), 5, fill=color)
        pen.text((x + 38, 524), words, fill=INK, font=ImageFont.load_default(19), anchor="lm")
        x += 80 + pen.textlength(words, font=ImageFont.load_default(19))
    keep("family", np.asarray(canvas))


def suppression() -> None:
    """Three boxes in a chain: greedy suppression keeps the third, Fast NMS does not."""
    boxes = {"A 0.9": (60, 70, 260, 250), "B 0.8": (130, 90, 330, 270), "C 0.7": (215, 110, 415, 290)}
    corners = torch.tensor(list(boxes.values()), dtype=torch.float32)
    table = iou(corners, corners)
    scores = torch.tensor([0.9, 0.8, 0.7])
    limit = 0.3
    greedy = batched_nms(corners, scores, torch.zeros(3), limit).tolist()
    row, _, score = fast_nms(corners, scores[:, None], limit, 10, 10)
    fast = row[score > 0].tolist()
    assert (greedy, fast) == ([0, 2], [0])
    canvas = Image.new("RGB", (1400, 340), (255, 255, 255))
    pen = ImageDraw.Draw(canvas)
    overlaps = f"A on B {table[0, 1]:.2f}, B on C {table[1, 2]:.2f}, A on C {table[0, 2]:.2f}"
    heads = (
        ("Three boxes of one class", overlaps, [0, 1, 2]),
        ("Greedy: A stays, B falls, C stays", f"limit {limit:g}: C overlaps nothing that stayed", greedy),
        ("Fast NMS: A stays, B falls, C falls", "C overlaps the better B; that B fell is not asked", fast),
    )
    shades = (CHOSEN, BEFORE, (30, 150, 95))
    for column, (title, words, stays) in enumerate(heads):
        left = 466 * column
        text(pen, (left + 233, 24), title, 23)
        text(pen, (left + 233, 54), words, 17, SOFT)
        for k, (name, (x0, y0, x1, y1)) in reversed(list(enumerate(boxes.items()))):
            alive = k in stays
            color = shades[k] if alive else (205, 210, 218)
            pen.rectangle((left + x0, y0 + 20, left + x1, y1 + 20), outline=color, width=6 if alive else 3)
            pen.text((left + x1 - 62, y0 - 6), name, fill=color, font=ImageFont.load_default(20))
    keep("nms", np.asarray(canvas))


def tasks() -> None:
    """One scene as boxes, semantic map, instances, panoptic map and landmarks."""
    view = compose(21, (220, 300), objects=7, classes=5)
    only_boxes = replace(view.instances, crops=None)
    things = len(view.instances)
    by_label = np.array([draw.colour_of(int(s.label)) for s in view.panoptic.segments], np.uint8)
    by_segment = np.array([draw.colour_of(40 + k) for k in range(len(view.panoptic.segments))], np.uint8)
    place = np.zeros(int(view.panoptic.ids.max()) + 1, np.int64)
    for k, segment in enumerate(view.panoptic.segments):
        place[segment.id] = k
    where = place[view.panoptic.ids]
    marks = replace(view.instances, keypoints=view.keypoints.astype(np.float32))
    no_words = {"labels": False, "scores": False}
    outlined = draw.overlay(view.image, view.instances, opacity=0.6, **no_words)
    columns = (
        ("Object detection: boxes", draw.overlay(view.image, only_boxes, scores=False)),
        ("Semantic: a class for each pixel", by_label[where]),
        (f"Instance: a mask for each of {things} things", outlined),
        ("Panoptic: every pixel, things and stuff", by_segment[where]),
        ("Landmarks: points of each thing",
         draw.overlay(view.image, marks, opacity=0.0, **no_words)),
    )  # fmt: skip
    high, wide = view.image.shape[:2]
    canvas = Image.new("RGB", (5 * wide + 4 * 14, high + 40), (255, 255, 255))
    pen = ImageDraw.Draw(canvas)
    for k, (title, image) in enumerate(columns):
        canvas.paste(Image.fromarray(np.ascontiguousarray(image)), (k * (wide + 14), 40))
        text(pen, (k * (wide + 14) + wide / 2, 18), title, 16)
    keep("tasks", np.asarray(canvas), 1570)


def pooling(found: Explanation) -> None:
    """The RoIAlign and RoIPool steps of an explanation side by side."""
    align, pool = found.panels()[2:4]
    keep("pooling", sheet("One proposal, read twice", "Its feature map, cell by cell", [align, pool]), 1200)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=Path("runs/how"), help="folder of the trained models")
    parser.add_argument("--steps", type=int, default=450, help="of training, four scenes each")
    parser.add_argument("--only", choices=MODELS, help="train this model and draw nothing")
    options = parser.parse_args()
    if options.only is not None:
        predictor(options.only, options.models, options.steps)
        return
    family()
    suppression()
    tasks()
    found = best_of("mask_rcnn", predictor("mask_rcnn", options.models, options.steps), 1, range(16))
    keep("mask_rcnn", found.draw())
    pooling(found)
    keep("yolact", best_of("yolact", predictor("yolact", options.models, options.steps), 2, range(16)).draw())


if __name__ == "__main__":
    main()
