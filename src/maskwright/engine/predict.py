"""Pictures in, predictions out: the object that `maskwright.load` returns."""

import os
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, overload

import torch
from numpy.typing import NDArray
from PIL import Image

from maskwright import media
from maskwright.engine.finish import finish
from maskwright.engine.prediction import Prediction
from maskwright.engine.prepare import prepare
from maskwright.engine.timing import StageTimer
from maskwright.errors import ConfigError, suggest
from maskwright.models.base import Model
from maskwright.nn.fast import accelerate
from maskwright.ops.warp import pad_batch, padded_size
from maskwright.types import Classes, InputSpec

Picture = str | os.PathLike[str] | Image.Image | NDArray[Any]
DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16, "bfloat16": torch.bfloat16}


class Predictor:
    """A model ready to predict: its classes, device and precision.

    model: in eval mode, on `device`, its weights in the precision's type. name: what it was loaded as.
    """

    def __init__(
        self, model: Model, classes: Classes, *, name: str = "", device: str = "cpu", precision: str = "float32"
    ) -> None:
        if precision not in DTYPES:
            raise ConfigError(f"precision is one of {sorted(DTYPES)}, got {precision!r}.")
        self.classes = classes
        self.name = name
        self.device = torch.device(device)
        self.precision = "bf16" if precision == "bfloat16" else precision
        model = model.eval().to(memory_format=torch.channels_last)
        self.model = accelerate(model).to(self.device, DTYPES[precision])

    def __repr__(self) -> str:
        return f"Predictor({self.name!r}, {len(self.classes)} classes, {self.device}, {self.precision})"

    @property
    def spec(self) -> InputSpec:
        """How a picture becomes the model's input."""
        return self.model.spec

    @overload
    def predict(
        self,
        source: Sequence[Picture],
        *,
        score_threshold: float | None = None,
        classes: Sequence[str] | None = None,
        max_instances: int | None = None,
        batch_size: int = 8,
        timer: StageTimer | None = None,
    ) -> list[Prediction]: ...
    @overload
    def predict(
        self,
        source: Picture,
        *,
        score_threshold: float | None = None,
        classes: Sequence[str] | None = None,
        max_instances: int | None = None,
        batch_size: int = 8,
        timer: StageTimer | None = None,
    ) -> Prediction: ...
    def predict(
        self,
        source: Picture | Sequence[Picture],
        *,
        score_threshold: float | None = None,
        classes: Sequence[str] | None = None,
        max_instances: int | None = None,
        batch_size: int = 8,
        timer: StageTimer | None = None,
    ) -> Prediction | list[Prediction]:
        """Find the instances of one picture, or of each picture of a list.

        source: path or URL, PIL image, (H, W, 3) uint8 RGB array, or a list of these. score_threshold, max_instances:
        replace the model's own (`model.output`). classes: names to keep. batch_size: pictures that go through the
        network together; those whose padded inputs differ in size go separately, so that a list gives what its
        pictures give one by one. timer: receives the seconds of each stage.
        Raises ImageError for what is not a picture, ConfigError for unknown class names.
        """
        if isinstance(source, (list, tuple)):
            return self._predict(source, score_threshold, classes, max_instances, batch_size, timer)
        return self._predict([source], score_threshold, classes, max_instances, 1, timer)[0]  # type: ignore[list-item]

    def _predict(
        self,
        sources: Sequence[Picture],
        score_threshold: float | None,
        classes: Sequence[str] | None,
        max_instances: int | None,
        batch_size: int,
        timer: StageTimer | None,
    ) -> list[Prediction]:
        changes = {"score_threshold": score_threshold, "max_instances": max_instances}
        output = replace(self.model.output, **{k: v for k, v in changes.items() if v is not None})  # type: ignore[arg-type]
        labels = None if classes is None else self.labels(classes)
        with _stage(timer, "read"):
            images = [media.as_image(s) for s in sources]
        with _stage(timer, "prepare"):
            prepared = [prepare(image, self.spec) for image in images]
        results: list[Prediction | None] = [None] * len(images)
        for rows in self._batches([(p.shape[1], p.shape[2]) for p, _ in prepared], batch_size):
            with _stage(timer, "prepare"):
                batch = pad_batch([prepared[r][0] for r in rows], self.spec.multiple)
                batch = batch.to(self.device, DTYPES[self.precision])
            with _stage(timer, "network"), torch.inference_mode():
                raw = self.model.detect(batch, [(prepared[r][0].shape[1], prepared[r][0].shape[2]) for r in rows])
                if self.device.type == "cuda":
                    torch.cuda.synchronize(self.device)
            with _stage(timer, "finish"):
                for i, r in enumerate(rows):
                    results[r] = finish(raw, i, prepared[r][1], self.classes, output, labels)
        return [r for r in results if r is not None]

    def _batches(self, sizes: Sequence[tuple[int, int]], batch_size: int) -> list[list[int]]:
        """Row numbers grouped by padded input size, at most `batch_size` together."""
        groups: dict[tuple[int, int], list[int]] = {}
        for row, size in enumerate(sizes):
            groups.setdefault(padded_size([size], self.spec.multiple), []).append(row)
        step = max(1, batch_size)
        return [rows[i : i + step] for rows in groups.values() for i in range(0, len(rows), step)]

    def labels(self, names: Sequence[str]) -> list[int]:
        """The labels of class names; raises ConfigError with suggestions for an unknown one."""
        known = {name: i for i, name in enumerate(self.classes)}
        for name in names:
            if name not in known:
                raise ConfigError(f"'{self.name}' has no class '{name}'.{suggest(name, known)}")
        return [known[name] for name in names]


def _stage(timer: StageTimer | None, name: str) -> Any:
    return nullcontext() if timer is None else timer.stage(name)
