"""Images in, predictions out: the object that `maskwright.load` returns."""

import copy
import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, Literal, TypedDict, Unpack, overload

import torch
from numpy.typing import NDArray
from PIL import Image

from maskwright import media
from maskwright.errors import ConfigError, suggest
from maskwright.fast.accelerate import accelerate
from maskwright.models import families
from maskwright.models.base import Model
from maskwright.ops.warp import pad_batch, padded_size
from maskwright.predictor.finish import finish
from maskwright.predictor.prepare import prepare
from maskwright.predictor.timing import StageTimer
from maskwright.results.prediction import Prediction
from maskwright.types import Classes, InputSpec, OutputSpec

ImageSource = str | os.PathLike[str] | Image.Image | NDArray[Any]
DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16, "bfloat16": torch.bfloat16}

GPU_BATCH = 8
"""Images that share a batch on a GPU unless asked otherwise; a CPU gains nothing from it and needs the memory."""


class MaskOptions(TypedDict, total=False):
    """How masks are finished; None means the model's own choice.

    largest_component: keep only the largest connected part of each mask. Of masks made of prototypes (YOLACT):
    crop_margin: prototype cells around the box in which a mask may be; infinity does not crop. upsample: "masks"
    crops and then enlarges, "logits" enlarges what the probabilities are made of and crops at the image's resolution.
    """

    crop_margin: float | None
    upsample: Literal["masks", "logits"] | None
    largest_component: bool | None


class Options(MaskOptions, total=False):
    """What `Predictor.predict` takes beside the images, with `MaskOptions`; None means the model's own choice.

    score_threshold: lowest score to keep, not below `Predictor.floor`. classes: names to keep. max_instances: most of
    an image, best first; the network is asked for more where its own limit is lower. batch_size: images that go
    through the network together. timer: receives the seconds of each stage ("read", "prepare", "network", "finish").
    """

    score_threshold: float | None
    classes: Sequence[str] | None
    max_instances: int | None
    batch_size: int | None
    timer: StageTimer | None


class Predictor:
    """A model ready to predict: its classes, device and precision.

    model: a copy of the one given (which stays as it is), in its fastest form, on `device`, its weights in the
    precision's type. name: what it was loaded as. take: the model is taken over and changed instead of copied.
    """

    def __init__(
        self,
        model: Model,
        classes: Classes,
        *,
        name: str = "",
        device: str = "cpu",
        precision: str = "float32",
        take: bool = False,
    ) -> None:
        self.device, kind = device_and_type(device, precision)
        self.classes = classes
        self.name = name
        self.precision = "bf16" if precision == "bfloat16" else precision
        own = model if take else copy.deepcopy(model)
        fast = accelerate(own.eval().to(memory_format=torch.channels_last))
        self.model: Model = fast.to(self.device, kind)

    def __repr__(self) -> str:
        return f"Predictor({self.name!r}, {len(self.classes)} classes, {self.device}, {self.precision})"

    @property
    def spec(self) -> InputSpec:
        """How an image becomes the model's input."""
        return self.model.spec

    @property
    def floor(self) -> float:
        """The lowest score that the model reports."""
        return self.model.floor

    @property
    def score_threshold(self) -> float:
        """The lowest score that is shown unless another is asked for."""
        return self.model.output.score_threshold

    @overload
    def predict(self, source: list[Any] | tuple[Any, ...], **options: Unpack[Options]) -> list[Prediction]: ...
    @overload
    def predict(self, source: ImageSource, **options: Unpack[Options]) -> Prediction: ...
    def predict(self, source: Any, **options: Unpack[Options]) -> Prediction | list[Prediction]:
        """Find the instances of one image, or of each image of a list.

        source: path or URL, PIL image, (H, W, 3) uint8 RGB array, or a list of these. For `options` see `Options`.
        A list gives what its images give one by one: only those whose padded inputs have one size share a batch.
        Raises ImageError for what is not an image, ConfigError for unknown class names or options, and for options
        that the model has no use for.
        """
        known = {**MaskOptions.__annotations__, **Options.__annotations__}
        for name in options:
            if name not in known:
                raise ConfigError(f"predict has no option '{name}'.{suggest(name, known)}")
        if isinstance(source, (list, tuple)):
            return self._predict(source, options)
        return self._predict([source], options)[0]

    def _predict(self, sources: Sequence[ImageSource], options: Options) -> list[Prediction]:
        names, timer, most = options.get("classes"), options.get("timer"), options.get("max_instances")
        output, labels = self.output_with(options), None if names is None else self.labels(names)
        together = options.get("batch_size")
        if together is not None and together < 1:
            raise ConfigError(f"batch_size is at least 1, got {together}.")
        with _stage(timer, "read"):
            images = [media.as_image(s) for s in sources]
        with _stage(timer, "prepare"):
            prepared = [prepare(image, self.spec) for image in images]
        sizes = [(p.shape[1], p.shape[2]) for p, _ in prepared]
        results: dict[int, Prediction] = {}
        model = self.model if most is None else families.reporting(self.model, most)
        for rows in self._batches(sizes, together or (1 if self.device.type == "cpu" else GPU_BATCH)):
            with _stage(timer, "prepare"):
                batch = pad_batch([prepared[r][0] for r in rows], self.spec.multiple, self.spec.square)
                batch = batch.to(self.device, DTYPES[self.precision])
            with _stage(timer, "network"), torch.inference_mode():
                raw = model.detect(batch, [sizes[r] for r in rows])
                if self.device.type == "cuda":
                    torch.cuda.synchronize(self.device)
            with _stage(timer, "finish"):
                for i, r in enumerate(rows):
                    results[r] = finish(raw, i, prepared[r][1], self.classes, output, labels)
        return [results[r] for r in range(len(images))]

    def output_with(self, options: Options) -> OutputSpec:
        """The model's own `OutputSpec` with what `options` change; ConfigError for what the model has no use for."""
        names = ("score_threshold", "max_instances", *MaskOptions.__annotations__)
        changes: dict[str, Any] = {k: options.get(k) for k in names if options.get(k) is not None}
        output = replace(self.model.output, **changes)
        self._check_masks(changes)
        if output.score_threshold < self.floor:
            raise ConfigError(
                f"'{self.name}' finds nothing below a score of {self.floor:g}, got score_threshold "
                f"{output.score_threshold:g}. Ask for {self.floor:g} or more."
            )
        return output

    def _check_masks(self, changes: Mapping[str, Any]) -> None:
        useless = [k for k in ("crop_margin", "upsample") if k in changes and not self.model.prototype_masks]
        if useless:
            raise ConfigError(
                f"'{self.name}' makes no masks of prototypes as YOLACT does, so it has no use for "
                f"{' and '.join(useless)}."
            )
        if changes.get("largest_component") and not self.model.draws_masks:
            raise ConfigError(f"'{self.name}' finds boxes only, so it has no use for largest_component.")

    def _batches(self, sizes: Sequence[tuple[int, int]], batch_size: int) -> list[list[int]]:
        """Row numbers grouped by padded input size, at most `batch_size` together."""
        groups: dict[tuple[int, int], list[int]] = {}
        for row, size in enumerate(sizes):
            groups.setdefault(padded_size([size], self.spec.multiple, self.spec.square), []).append(row)
        starts = [(rows, i) for rows in groups.values() for i in range(0, len(rows), batch_size)]
        return [rows[i : i + batch_size] for rows, i in starts]

    def labels(self, names: Sequence[str]) -> list[int]:
        """The labels of class names; raises ConfigError with suggestions for an unknown one."""
        if isinstance(names, str):
            raise ConfigError(f"classes is a list of names, got {names!r}; give [{names!r}].")
        known = {name: i for i, name in enumerate(self.classes)}
        for name in names:
            if name not in known:
                raise ConfigError(f"'{self.name}' has no class '{name}'.{suggest(name, known)}")
        return [known[name] for name in names]


def device_and_type(device: str, precision: str) -> tuple[torch.device, torch.dtype]:
    """What a device's and a precision's name mean; ConfigError for one that is unknown or cannot be used here."""
    if precision not in DTYPES:
        raise ConfigError(f"precision is one of {sorted(DTYPES)}, got {precision!r}.")
    try:
        place = torch.device(device)
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"The device '{device}' cannot be used here: {str(error).splitlines()[0]}") from error
    return place, DTYPES[precision]


def _stage(timer: StageTimer | None, name: str) -> Any:
    return nullcontext() if timer is None else timer.stage(name)
