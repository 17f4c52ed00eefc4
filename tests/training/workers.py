"""What each process of `test_processes.py` does under torchrun (`workers.py FOLDER LESSON...`); findings are JSON."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from maskwright.data.dataset import Dataset
from maskwright.data.formats import coco
from maskwright.errors import DataError, MaskwrightError
from maskwright.models import rcnn, yolact
from maskwright.models.base import AnyModel
from maskwright.models.rcnn import RCNN
from maskwright.models.yolact import Yolact
from maskwright.nn.sync_norm import synchronised_norms
from maskwright.ops.losses import Term
from maskwright.training.config import TrainConfig
from maskwright.training.fit import History, fit
from maskwright.training.processes import Team, is_first

STYLES = ("detectron2", "torchvision_v2", "compact", "yolact plus")
"""Frozen norms; live norms also in a head; live norms everywhere; one-stage with frozen norms."""


def lesson_data(folder: Path) -> Dataset:
    return coco.load(folder / "data" / "annotations.json", folder / "data" / "images")


def lesson_config(out: Path, **changes: Any) -> TrainConfig:
    """Batches of 3, 3 and 1 of the 7 images: unequal shares, and an empty one. SGD, as Adam enlarges rounding."""
    base = TrainConfig(
        out=str(out), epochs=1, batch_size=3, optimizer="sgd", lr=1e-3, warmup=0, ema=0.9, clip=None, weight_decay=0.0,
        seed=3, device="cpu", log_every=1, workers=0, evaluate_every=1, progress=False,
    )  # fmt: skip
    return replace(base, **changes)


def lesson_model(style: str) -> AnyModel:
    torch.manual_seed(5)
    family, _, kind = style.rpartition(" ")
    return Yolact(yolact.tiny(kind, 2)) if family else RCNN(rcnn.tiny(kind, 2))


def stop_after_first_epoch(model: AnyModel, data: Dataset) -> dict[str, float]:
    """The evaluation is given up."""
    os.kill(os.getpid(), signal.SIGTERM)
    return {"AP": 0.0}


def equal(folder: Path) -> dict[str, Any]:
    """The same runs as in one process."""
    found: dict[str, Any] = {}
    data = lesson_data(folder)
    for style in STYLES:
        model = lesson_model(style)
        history = fit(model, data, None, lesson_config(folder / f"two_{style}"))
        found[style] = history.losses
        if is_first():
            torch.save(model.state_dict(), folder / f"two_{style}.pt")
    found["norms"] = [norm_errors(images) for images in (3, 1, 5)]
    stopped = fit(
        lesson_model("compact"), data, data, lesson_config(folder / "begun_by_two", epochs=2), stop_after_first_epoch
    )
    found["stopped"] = [stopped.stopped, stopped.iterations, len(stopped.metrics)]
    model = lesson_model("compact")
    fit(model, data, None, lesson_config(folder / "begun_by_one", epochs=2, resume=True))
    if is_first():
        torch.save(model.state_dict(), folder / "begun_by_one.pt")
    found["errors"] = {name: failing(folder, data, name) for name in ("not finite", "in evaluation", "occupied")}
    return found


def norm_errors(images_of_first: int) -> list[float]:
    """Largest differences of a shared norm from torch's over all five images: output, three gradients, statistics."""
    torch.manual_seed(2)
    x, dy = torch.randn(5, 3, 4, 6) * 3 + 1, torch.randn(5, 3, 4, 6)
    whole, shared = (nn.BatchNorm2d(3).train() for _ in range(2))
    own = slice(0, images_of_first) if is_first() else slice(images_of_first, 5)
    a, b = x.clone().requires_grad_(), x[own].clone().requires_grad_()
    with synchronised_norms(shared):
        y, part = whole(a), shared(b)
    y.backward(dy)
    part.backward(dy[own])
    Team().add_gradients(shared.parameters())
    pairs = [
        (part, y[own]), (b.grad, a.grad[own]), (shared.weight.grad, whole.weight.grad),
        (shared.bias.grad, whole.bias.grad), *zip(shared.buffers(), whole.buffers(), strict=True),
    ]  # fmt: skip
    return [float((one - other).abs().max()) if other.numel() else 0.0 for one, other in pairs]


def failing(folder: Path, data: Dataset, name: str) -> str:
    """What a run that fails says in this process."""

    class Bad(RCNN):
        def terms(self, *args: Any) -> dict[str, Term]:
            terms = super().terms(*args)
            if name == "not finite" and not is_first():  # in one of the processes
                terms["mask"] = replace(terms["mask"], total=terms["mask"].total * torch.nan)
            return terms

    def evaluate(model: AnyModel, data: Dataset) -> Mapping[str, float]:
        assert is_first()
        raise DataError("the annotations cannot be read")

    out = folder / ("two_compact" if name == "occupied" else name)
    try:
        fit(Bad(rcnn.tiny("detectron2", 2)), data, data, lesson_config(out), evaluate)
    except MaskwrightError as error:
        return f"{type(error).__name__}: {error}"
    return "nothing went wrong"


def killed(folder: Path) -> History:
    """The second process is killed in its third step; a state is saved after each.

    The first takes its time to tell of it: torchrun sends it SIGTERM meanwhile, as one of its processes ended.
    """
    terms, steps = RCNN.terms, iter(range(99))

    def dying(self: RCNN, *args: Any) -> dict[str, Term]:
        if next(steps) == 2 and not is_first():
            os.kill(os.getpid(), signal.SIGKILL)
        return terms(self, *args)

    RCNN.terms = dying  # type: ignore[method-assign]
    config = lesson_config(folder / "killed", epochs=2, checkpoint_minutes=0)
    try:
        return fit(lesson_model("compact"), lesson_data(folder), None, config)
    finally:
        time.sleep(1)


if __name__ == "__main__":
    torch.set_num_threads(1)
    lessons: Mapping[str, Callable[[Path], Any]] = {"equal": equal, "killed": killed}
    place = Path(sys.argv[1])
    for name in sys.argv[2:]:
        (place / f"{name}_{os.environ['RANK']}.json").write_text(json.dumps(lessons[name](place)))
