"""Images in, predictions out: the object that `maskwright.load` returns."""

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, overload

import torch
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from maskwright import media
from maskwright.errors import ConfigError, suggest
from maskwright.geometry import Geometry
from maskwright.models.base import MASK_PARTS, AnyModel
from maskwright.ops.warp import pad_batch, padded_size
from maskwright.predictor.detector import Detector, NetworkDetector
from maskwright.predictor.finish import finish
from maskwright.predictor.frames import frames_of
from maskwright.predictor.given import GivenBoxes, as_given, for_given, given_boxes
from maskwright.predictor.listed import listed, of_tensor
from maskwright.predictor.options import FindOptions, FindPlan, intensity_of
from maskwright.predictor.options import given as options_of
from maskwright.predictor.prepare import prepare, searched
from maskwright.predictor.session import VideoSession
from maskwright.predictor.tiles import OnTile, check_tiles, predict_tiles, size_of, tiling_of, window_of
from maskwright.predictor.timing import StageTimer, stage
from maskwright.predictor.track_options import TrackOptions
from maskwright.predictor.views import passes
from maskwright.results.prediction import Prediction
from maskwright.types import (
    Classes,
    HeatMaps,
    ImageArray,
    Inputs,
    InputSpec,
    Intensity,
    PrototypeMasks,
    RawDetections,
    Size,
)

ImageSource = str | os.PathLike[str] | Image.Image | NDArray[Any]

GPU_BATCH = 8
"""Images that share a batch on a GPU unless asked otherwise; a CPU gains nothing from it and needs the memory."""


class Predictor:
    """A model ready to predict, in three steps that can also be called one by one: `prepare`, `run`, `finish`.

    detector: what finds instances; of a model its fast form. The model given stays as it is. classes: names, for a
    model. name: what it was loaded as. device, precision: of a model.
    """

    def __init__(
        self,
        model: AnyModel | Detector,
        classes: Classes | None = None,
        *,
        name: str = "",
        device: str = "cpu",
        precision: str = "float32",
    ) -> None:
        if isinstance(model, torch.nn.Module):
            if classes is None:
                raise ConfigError("A Predictor of a model needs the names of its classes.")
            model = NetworkDetector.of(model, classes, device=device, precision=precision)
        self.detector: Detector = model
        self.name = name
        self._process = os.getpid()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _process=os.getpid())  # a copy sent to a process is used there

    def __repr__(self) -> str:
        return f"Predictor({self.name!r}, {len(self.classes)} classes, {self.device}, {self.precision})"

    @property
    def classes(self) -> Classes:
        """The names of the classes, by label."""
        return self.detector.classes

    @property
    def model(self) -> AnyModel:
        """The network that finds the instances, in its fast form. ConfigError where the detector is no network."""
        if not isinstance(self.detector, NetworkDetector):
            raise ConfigError(
                f"'{self.name}' is run by {type(self.detector).__name__}, there is no network to look at."
            )
        return self.detector.network

    @property
    def device(self) -> torch.device:
        """Where the detector computes."""
        return self.detector.device

    @property
    def precision(self) -> str:
        """What the detector computes in: "float32", "bf16" or, of an exported file, "int8"."""
        return self.detector.precision

    @property
    def spec(self) -> InputSpec:
        """How an image becomes the model's input."""
        return self.detector.spec

    @property
    def finds_landmarks(self) -> bool:
        """Whether the model finds landmarks, not boxes and masks alone."""
        return HeatMaps in self.detector.parts

    @property
    def draws_masks(self) -> bool:
        """Whether instances have masks."""
        return any(part in MASK_PARTS for part in self.detector.parts)

    @property
    def lowest_score(self) -> float:
        """The lowest score that the model reports."""
        return self.detector.lowest_score(self.detector.limits)

    @property
    def score_threshold(self) -> float:
        """The lowest score that is shown unless another is asked for."""
        return self.detector.output.score_threshold

    @property
    def max_instances(self) -> int:
        """The most instances of an image that are reported unless more are asked for."""
        return min(self.detector.limits.keep, self.detector.output.max_instances)

    @overload
    def predict(
        self,
        source: list[Any] | tuple[Any, ...],
        options: FindOptions | None = None,
        *,
        boxes: Sequence[ArrayLike | GivenBoxes] | None = None,
        timer: StageTimer | None = None,
        on_tile: OnTile | None = None,
        **changes: Any,
    ) -> list[Prediction]: ...
    @overload
    def predict(
        self,
        source: ImageSource | torch.Tensor,
        options: FindOptions | None = None,
        *,
        boxes: ArrayLike | GivenBoxes | None = None,
        timer: StageTimer | None = None,
        on_tile: OnTile | None = None,
        **changes: Any,
    ) -> Prediction: ...
    def predict(
        self,
        source: Any,
        options: FindOptions | None = None,
        *,
        boxes: Any = None,
        timer: StageTimer | None = None,
        on_tile: OnTile | None = None,
        **changes: Any,
    ) -> Prediction | list[Prediction]:
        """Find the instances of one image, or of each image of a list or folder.

        source: path or URL, PIL image, (H, W, 3) uint8 RGB array, tensor (3, H, W) of uint8 or of floats in 0..1; or a
        list of these, a tensor (B, 3, H, W), a folder, or a pattern such as "cells/*.png". Arrays of other numbers are
        read as images with more than 8 bits are. Of a stack, a file of several images, the first is taken, with a
        warning; `maskwright.read_image(path, page=2)` gives the others. options, or `changes` as keywords: see
        `FindOptions`. boxes: (N, 4) xyxy in pixels of the image, or for several images a list of these: instead of
        finding objects the model gives each box, as it is and in this order, a class and a mask (R-CNNs;
        `GivenBoxes.of(boxes, labels)` where the classes are known). timer: receives the seconds of each stage ("read",
        "prepare", "network", "finish", of tiles "join"). on_tile: sees how many tiles of an image are done.
        A list gives what its images give one by one: only those whose padded inputs have one size share a batch. A TIFF
        in tiles or strips that is computed in tiles (`FindOptions.tiles`) is never decoded as a whole.
        Raises ImageError for what is not an image, ConfigError for unknown class names or options, and for options
        that the model has no use for.
        """
        options, images = options_of(FindOptions, options, changes, "predict"), listed(source)
        if images is None:
            image = [of_tensor(source) if isinstance(source, torch.Tensor) else source]
            own = self._boxes(image, None if boxes is None else [boxes])
            return self._predict(image, options, own, timer, on_tile)[0]
        given = self._boxes(images, boxes)
        few = len(images)  # in memory already; those of one size share a batch
        if isinstance(source, (str, os.PathLike)):
            few = self.together(options.batch_size)
        parts = [slice(k, k + few) for k in range(0, len(images), max(few, 1))] or [slice(0)]
        given_to = [None if given is None else given[p] for p in parts]
        found = (self._predict(images[p], options, g, timer, on_tile) for p, g in zip(parts, given_to, strict=True))
        return [prediction for part in found for prediction in part]

    def _boxes(self, sources: Sequence[ImageSource], boxes: Sequence[Any] | None) -> list[GivenBoxes] | None:
        takes = isinstance(self.detector, NetworkDetector) and self.detector.network.config.takes_boxes
        return None if boxes is None else given_boxes(boxes, len(sources), self.name, takes=takes)

    def _predict(
        self,
        sources: Sequence[ImageSource | media.Windows],
        options: FindOptions,
        given: list[GivenBoxes] | None,
        timer: StageTimer | None,
        on_tile: OnTile | None,
    ) -> list[Prediction]:
        plan, results = self.plan(options), dict[int, Prediction]()
        with ExitStack() as stack:
            with stage(timer, "read"):
                images = self._read(sources, options, stack)
            tilings = [tiling_of(self, options, size_of(image)) for image in images]
            if given is not None:
                given = [own.within(size_of(image)) for own, image in zip(given, images, strict=True)]
            whole = [r for r, tiling in enumerate(tilings) if tiling is None]
            pixels = [window_of(images[r]) for r in whole]
            found = passes(self, pixels, options, plan, given and [given[r] for r in whole], timer)
            results |= zip(whole, found, strict=True)
            for r, tiling in enumerate(tilings):
                if tiling is not None:
                    own = None if given is None else given[r]
                    results[r] = predict_tiles(self, images[r], tiling, options, own, timer, on_tile)
        for r, source in enumerate(sources):
            results[r].image = source.source if isinstance(source, media.Windows) else source
        return [results[r] for r in range(len(images))]

    def passes(
        self,
        images: Sequence[ImageArray],
        options: FindOptions,
        plan: FindPlan,
        given: list[GivenBoxes] | None = None,
        timer: StageTimer | None = None,
    ) -> list[Prediction]:
        """The instances of images (H, W, 3), each computed as a whole. plan: that of the options. given: boxes inside
        each image that become its instances."""
        if given is not None:
            limits, output = for_given(plan.limits, plan.output, options, given)
            plan = FindPlan(limits, None, output)
        with stage(timer, "prepare"):
            prepared = [self.prepare(image) for image in images]
        boxes = None if given is not None else self.searched(images, [g for _, g in prepared], timer)
        results: dict[int, Prediction] = {}
        for rows in self.batches([p for p, _ in prepared], options.batch_size):
            with stage(timer, "prepare"):
                inputs = self.batch([prepared[r][0] for r in rows], boxes and [boxes[r] for r in rows])
                if given is not None:
                    own, labels = zip(*(given[r].inputs(prepared[r][1]) for r in rows), strict=True)
                    inputs = replace(inputs, proposals=own, labels=labels)
            with stage(timer, "network"):
                raw = self.run(inputs, plan)
            with stage(timer, "finish"):
                for i, r in enumerate(rows):
                    found = self.finish(raw, i, prepared[r][1], plan)
                    results[r] = found if given is None else as_given(found, given[r])
        return [results[r] for r in range(len(images))]

    def track(
        self,
        source: Any,
        options: FindOptions | None = None,
        *,
        track: TrackOptions | None = None,
        timer: StageTimer | None = None,
        **changes: Any,
    ) -> Iterator[Prediction]:
        """Find the instances of a video's frames and follow them: one `Prediction` a frame, with `track_ids`.

        source: the path of a video, a folder, pattern, list or stack of images, or images one by one, such as a
        generator; one frame is in memory at a time. options, `changes`, timer: as for `predict`. track: key frames
        and identities, see `TrackOptions`. Raises as `predict` does, at the frame that cannot be read, and ConfigError
        for an interval where the model carries nothing from frame to frame.
        """
        options = options_of(FindOptions, options, changes, "track")
        return self._follow(source, VideoSession(self, options, track, timer), intensity_of(self, options))

    def _follow(self, source: Any, session: VideoSession, intensity: Intensity) -> Iterator[Prediction]:
        told = media.Readings()
        for tracked in session.run(frames_of(source, intensity, told)):
            yield tracked.found
        for note in told.notes(intensity):
            warnings.warn(note, stacklevel=2)

    def _read(
        self, sources: Sequence[ImageSource | media.Windows], options: FindOptions, stack: ExitStack
    ) -> list[ImageArray | media.Windows]:
        """The pixels of each; of large files that are computed in tiles, and stay open in the stack, windows."""
        told, intensity, images = media.Readings(), intensity_of(self, options), list[ImageArray | media.Windows]()

        def tiled(size: Size) -> bool:
            return tiling_of(self, options, size) is not None

        for source in sources:
            if isinstance(source, media.Windows):
                images.append(source)
            elif (windows := media.windows_of(source, tiled, intensity=intensity, told=told)) is not None:
                images.append(stack.enter_context(windows))
            else:
                images.append(media.as_image(source, intensity=intensity, told=told))
        for note in told.notes(intensity):
            warnings.warn(note, stacklevel=4)
        return images

    # ---- the steps --------------------------------------------------------------------------------------------

    def plan(self, options: FindOptions) -> FindPlan:
        """What the options mean here; ConfigError for what the model has no use for and for unknown class names."""
        output, limits = options.applied(self.detector.output), self.detector.limits
        self._check_masks(options)
        check_tiles(self, options)
        if output.score_threshold < self.lowest_score:
            raise ConfigError(
                f"'{self.name}' finds nothing below a score of {self.lowest_score:g}, got score_threshold "
                f"{output.score_threshold:g}. Ask for {self.lowest_score:g} or more."
            )
        if options.max_instances is not None:
            limits = replace(limits, keep=max(limits.keep, options.max_instances))
        labels = None if options.classes is None else tuple(self.labels(options.classes))
        return FindPlan(limits, labels, output)

    def prepare(self, image: NDArray[Any]) -> tuple[torch.Tensor, Geometry]:
        """(H, W, 3) uint8 RGB to the network's input (3, h, w) without padding, and the map image -> input."""
        self._check_process()
        return prepare(image, self.spec)

    def searched(
        self, images: Sequence[ImageArray], geometries: Sequence[Geometry], timer: StageTimer | None = None
    ) -> list[torch.Tensor] | None:
        """The proposals (N, 4) of each image in its input, for a network that is given them; None for any other."""
        return searched(self.detector, images, geometries, timer)

    def together(self, batch_size: int | None = None) -> int:
        """How many images share a batch, where `batch_size` were asked for."""
        return batch_size or (1 if self.device.type == "cpu" else GPU_BATCH)

    def batches(self, prepared: Sequence[torch.Tensor], batch_size: int | None = None) -> list[list[int]]:
        """Row numbers of prepared images grouped by padded input size, at most `batch_size` together."""
        together = self.together(batch_size)
        groups: dict[tuple[int, int], list[int]] = {}
        for row, p in enumerate(prepared):
            size = padded_size([(p.shape[1], p.shape[2])], self.spec.multiple, self.spec.square)
            groups.setdefault(size, []).append(row)
        starts = [(rows, i) for rows in groups.values() for i in range(0, len(rows), together)]
        return [rows[i : i + together] for rows, i in starts]

    def batch(self, prepared: Sequence[torch.Tensor], proposals: Sequence[torch.Tensor] | None = None) -> Inputs:
        """Prepared images padded to one size, on the detector's device. proposals: see `searched`."""
        images = pad_batch(list(prepared), self.spec.multiple, self.spec.square)
        sizes = tuple((p.shape[1], p.shape[2]) for p in prepared)
        return Inputs(images.to(self.device, self.detector.dtype), sizes, proposals)

    def run(self, inputs: Inputs, plan: FindPlan) -> RawDetections:
        """The raw detections of a batch."""
        self._check_process()
        return self.detector.detect(inputs, plan.limits)

    def follow(self, inputs: Inputs, state: Any, plan: FindPlan) -> tuple[RawDetections, Any]:
        """The raw detections of a video's next frame, and what is carried on. state: None for a key frame."""
        self._check_process()
        if isinstance(self.detector, NetworkDetector):
            return self.detector.follow(inputs, state, plan.limits)
        return self.run(inputs, plan), None

    def finish(self, raw: RawDetections, image: int, geometry: Geometry, plan: FindPlan) -> Prediction:
        """The instances of one image of the batch, on that image."""
        return finish(raw, image, geometry, self.classes, plan.output, plan.labels)

    def _check_process(self) -> None:
        """Raises ConfigError in a forked process where torch would wait for ever for threads that were not copied."""
        if os.getpid() == self._process or (self.device.type == "cpu" and torch.get_num_threads() == 1):
            return
        one = "call torch.set_num_threads(1) in it first, or " if self.device.type == "cpu" else ""
        raise ConfigError(
            f"'{self.name}' was loaded in process {self._process}, of which this one ({os.getpid()}) is a fork: "
            "torch's threads do not live on in it, and it would wait for them for ever. Start the process by "
            "multiprocessing.get_context('spawn') and load the model there; or, if it has to be a fork, "
            f"{one}load no model before it."
        )

    def _check_masks(self, options: FindOptions) -> None:
        useless = [k for k in ("crop_margin", "upsample") if getattr(options, k) is not None]
        if useless and PrototypeMasks not in self.detector.parts:
            raise ConfigError(
                f"'{self.name}' makes no masks of prototypes as YOLACT does, so it has no use for "
                f"{' and '.join(useless)}."
            )
        if options.largest_component and not self.draws_masks:
            raise ConfigError(f"'{self.name}' finds boxes only, so it has no use for largest_component.")

    def labels(self, names: Sequence[str]) -> list[int]:
        """The labels of class names; raises ConfigError with suggestions for an unknown one."""
        known: Mapping[str, int] = {name: i for i, name in enumerate(self.classes)}
        for name in names:
            if name not in known:
                raise ConfigError(f"'{self.name}' has no class '{name}'.{suggest(name, known)}")
        return [known[name] for name in names]
