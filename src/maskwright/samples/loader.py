"""Training batches in an order, and with variations, that depend on nothing but seed, epoch and image.

A run that was stopped at any batch goes on with exactly the batches it would have seen. Several processes share the
images of each batch: together they see the batches that one process would.

Letters: B batch, H W padded batch, h w one input image.
"""

import itertools
import math
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from maskwright.data.dataset import Dataset
from maskwright.errors import NOTHING_TO_LEARN, ConfigError, DataError, MaskwrightError, TrainingError
from maskwright.geometry import Geometry
from maskwright.ops.warp import input_size, normalise, pad_batch, resize_normalise
from maskwright.samples.augment import Augment, Choice, move_objects
from maskwright.samples.mix import Another, View, vary
from maskwright.samples.sample import Objects, Sample
from maskwright.types import InputSpec, IntArray, Size, Target

ORDER, VARIATION = 0, 1
"""Keep the random streams for the order of the images and for their variations apart."""


@dataclass(frozen=True)
class Sampling:
    """How batches are drawn.

    batch_size: images of all processes together; the last batch of an epoch may be smaller. seed: any integer from 0.
    epochs: None goes on for ever. repeats: times an epoch shows each image, each time varied anew. augment: None
    shows each image as prediction would see it. short_edges: one of these input sizes is drawn for each image;
    empty means the spec's own. keep_empty: also show images without objects. masks: draw the outlines; False trains
    on boxes alone. workers: processes that prepare images; 0 is this one.
    """

    batch_size: int = 2
    seed: int = 0
    epochs: int | None = 1
    repeats: int = 1
    augment: Augment | None = None
    short_edges: tuple[int, ...] = ()
    keep_empty: bool = True
    masks: bool = True
    workers: int = 0

    def __post_init__(self) -> None:
        if min(self.batch_size, self.repeats) < 1 or min(self.seed, self.workers, self.epochs or 0) < 0:
            raise ConfigError(
                f"Sampling: batch_size, repeats are at least 1; seed, epochs, workers at least 0, got {self}."
            )
        if any(edge < 1 for edge in self.short_edges):
            raise ConfigError(f"Sampling: short_edges are positive pixels, got {self.short_edges}.")


@dataclass(frozen=True, slots=True)
class Key:
    """Which sample: epoch, batch number in it, position of the image in the data set, which of its repeats."""

    epoch: int
    number: int
    position: int
    repeat: int = 0


@dataclass(eq=False)
class Batch:
    """One step's images; none where this process has no share in the batch.

    images: (B, 3, H, W) float32 normalised, padded right and bottom with zeros. sizes: (h, w) of each without the
    padding. targets: input frame, one per image. image_ids, files, keys: which images they are.
    """

    images: Tensor
    sizes: list[Size]
    targets: list[Target]
    image_ids: list[int]
    files: list[str]
    keys: list[Key]

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def epoch(self) -> int:
        """Which epoch this is of, from 0."""
        return self.keys[0].epoch

    @property
    def number(self) -> int:
        """Which batch of its epoch this is, from 0."""
        return self.keys[0].number

    def to(self, device: torch.device) -> "Batch":
        """The same batch with its tensors on `device`; masks stay in main memory.

        Crowd flags that are all false are left behind: a device would be waited for to learn that there is none.
        """
        if self.images.device == device:
            return self
        targets = [
            replace(t, boxes=t.boxes.to(device), labels=t.labels.to(device),
                    crowd=t.crowd.to(device) if t.crowd is not None and bool(t.crowd.any()) else None,
                    keypoints=None if t.keypoints is None else t.keypoints.to(device))
            for t in self.targets
        ]  # fmt: skip
        return replace(self, images=self.images.to(device, non_blocking=True), targets=targets)


def order(positions: IntArray, seed: int, epoch: int, repeats: int = 1) -> IntArray:
    """The images of one epoch, shuffled, `repeats` times over; the same for the same seed and epoch everywhere."""
    rng = np.random.default_rng([ORDER, seed, epoch])
    return np.concatenate([rng.permutation(positions) for _ in range(repeats)])


def usable(dataset: Dataset, *, keep_empty: bool) -> IntArray:
    """Positions of the images to learn from. Raises DataError where not one has an object that is not a crowd."""
    full = [i for i in range(len(dataset)) if any(not a.crowd for a in dataset.of(i))]
    if not full:
        text = f"none of the {len(dataset)} images to learn from has an object, nothing can be learnt."
        raise DataError(f"{dataset.source}: {text}", code=NOTHING_TO_LEARN)
    return np.arange(len(dataset)) if keep_empty else np.array(full, np.int64)


class Batches:
    """All batches of a run, one after the other through its epochs, from any point on.

    len(batches) is the number of batches in one epoch. share: (i, n) gives process i of n its part of every batch,
    which is empty where a batch has fewer images than there are processes.
    """

    def __init__(self, dataset: Dataset, spec: InputSpec, sampling: Sampling, share: tuple[int, int] = (0, 1)) -> None:
        self.sampling, self.share = sampling, share
        self.positions = usable(dataset, keep_empty=sampling.keep_empty)
        self.samples = TrainingSamples(dataset, spec, sampling)

    def __len__(self) -> int:
        return math.ceil(len(self.positions) * self.sampling.repeats / self.sampling.batch_size)

    def start(self, epoch: int = 0, number: int = 0) -> Iterator[Batch]:
        """Batches from batch `number` of `epoch` to the end of the last epoch.

        Raises ImageError, DataError that names the image which cannot be used, whichever process read it.
        """
        workers = self.sampling.workers
        loader: DataLoader[Any] = DataLoader(
            _Reported(self.samples),
            batch_sampler=_Keys(self, epoch, number),
            num_workers=workers,
            collate_fn=_Collate(self.samples),
            worker_init_fn=_follow_parent if workers else None,
            prefetch_factor=4 if workers else None,
            generator=torch.Generator(),  # the loader draws a seed it never needs: not from the global stream
        )
        return _unwrapped(loader)

    def keys(self, epoch: int, number: int) -> Iterator[list[Key]]:
        """What this process's share of each batch holds, without reading an image."""
        s, (mine, processes) = self.sampling, self.share
        for now in itertools.count(epoch) if s.epochs is None else range(epoch, s.epochs):
            shuffled = order(self.positions, s.seed, now, s.repeats)
            for batch in range(number if now == epoch else 0, len(self)):
                begin = batch * s.batch_size
                count = min(s.batch_size, len(shuffled) - begin)
                places = range(begin + count * mine // processes, begin + count * (mine + 1) // processes)
                yield [Key(now, batch, int(shuffled[i]), i // len(self.positions)) for i in places]


class _Keys:
    """Batches.keys as an object that a DataLoader accepts for a batch sampler."""

    def __init__(self, batches: Batches, epoch: int, number: int) -> None:
        self.batches, self.epoch, self.number = batches, epoch, number

    def __iter__(self) -> Iterator[list[Key]]:
        return self.batches.keys(self.epoch, self.number)


@dataclass(frozen=True, eq=False)
class Item:
    """One prepared image (3, h, w) with its target. least: side to which it is padded at least."""

    image: Tensor
    target: Target
    key: Key
    least: int = 0


class _Reported(TorchDataset[Item | MaskwrightError]):
    """Samples, or the error in place of one: what a worker process raises would arrive wrapped in its traceback."""

    def __init__(self, samples: "TrainingSamples") -> None:
        self.samples = samples

    def __getitem__(self, key: Key) -> Item | MaskwrightError:
        try:
            return self.samples[key]
        except MaskwrightError as error:
            return error.with_traceback(None)


@dataclass(frozen=True)
class _Collate:
    """The batch of some items, or the first error among them."""

    samples: "TrainingSamples"

    def __call__(self, items: Sequence[Item | MaskwrightError]) -> Batch | MaskwrightError:
        for item in items:
            if isinstance(item, MaskwrightError):
                return item
        return self.samples.collate([item for item in items if isinstance(item, Item)])


def _unwrapped(loader: "DataLoader[Any]") -> Iterator[Batch]:
    """The loader's batches; an error that arrives in place of one is raised.

    A batch lies in memory of the worker that made it; where that has ended before the batch was taken over, there is
    nothing at the other end of the line.
    """
    batches = iter(loader)
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except (ConnectionError, EOFError) as error:
            if not loader.num_workers:
                raise
            raise _ended(f"its batch could not be taken over ({type(error).__name__}).") from error
        if isinstance(batch, MaskwrightError):
            raise batch
        yield batch


def _ended(cause: object) -> TrainingError:
    return TrainingError(
        f"A process that prepares images ended: {cause} Often memory ran out: use fewer workers. "
        f"Where the run's folder holds last.state, resume goes on from it; otherwise start the run anew."
    )


@contextmanager
def telling_of_workers() -> Iterator[None]:
    """Turns the end of a worker process, which torch reports wherever the program is, into a TrainingError."""
    try:
        yield
    except RuntimeError as error:
        cause: BaseException | None = error  # what was interrupted may have failed in its own way after it
        while cause is not None and "DataLoader worker" not in str(cause):
            cause = cause.__context__
        if isinstance(error, MaskwrightError) or cause is None:
            raise
        raise _ended(cause) from error


class TrainingSamples(TorchDataset[Item]):
    """Prepared images by `Key`; the same key always gives the same item."""

    def __init__(self, dataset: Dataset, spec: InputSpec, sampling: Sampling) -> None:
        self.dataset, self.spec, self.sampling = dataset, spec, sampling
        self.with_masks = sampling.masks and dataset.has_masks
        if sampling.masks and not self.with_masks:
            raise DataError(
                f"{dataset.source}: some annotations have a box but no outline. Complete them, or train a model of "
                f"boxes alone, such as faster_rcnn_small.",
                options=("model",),
            )
        if sampling.augment is not None and sampling.augment.copy_paste > 0 and not self.with_masks:
            raise ConfigError(f"{dataset.source}: copy_paste needs outlines, training is on boxes alone. Set it to 0.")
        self.shown, self.filled = (usable(dataset, keep_empty=empty) for empty in (sampling.keep_empty, False))

    def __getitem__(self, key: Key) -> Item:
        sample = self.sample(key.position)
        repeat = [key.repeat] if key.repeat else []  # the first is the same whether there are others or not
        rng = np.random.default_rng([VARIATION, self.sampling.seed, key.epoch, key.position, *repeat])
        spec, augment = self._spec(rng), self.sampling.augment
        image, objects = prepare_sample(sample, spec, augment, rng, self.another)
        target = Target(
            boxes=torch.from_numpy(objects.boxes),
            labels=torch.from_numpy(objects.labels),
            masks=objects.masks,
            crowd=torch.from_numpy(objects.crowd),
            keypoints=None if objects.keypoints is None else torch.from_numpy(objects.keypoints),
        )
        windowed = augment is not None and augment.crop is not None  # the window is the input, nothing is filled up
        return Item(image, target, key, 0 if windowed else spec.square)

    def sample(self, position: int) -> Sample:
        """An image of the data set with its annotations as they are."""
        data = self.dataset
        objects = Objects(
            boxes=data.boxes(position),
            labels=data.labels(position),
            masks=data.masks(position) if self.with_masks else None,
            crowd=data.crowd(position),
            keypoints=data.keypoints(position),
            landmarks=data.landmarks,
        )
        return Sample(data.image(position), objects)

    def another(self, rng: np.random.Generator, *, filled: bool) -> Sample:
        """An image drawn from those that are shown, or from those of them that have an object."""
        positions = self.filled if filled else self.shown
        return self.sample(int(positions[rng.integers(len(positions))]))

    def collate(self, items: Sequence[Item]) -> Batch:
        """Pad and stack; no items give an empty batch of the smallest input."""
        side, least = self.spec.multiple, max((item.least for item in items), default=0)
        records = [self.dataset.images[item.key.position] for item in items]
        return Batch(
            images=pad_batch([item.image for item in items], side, least) if items else torch.zeros(0, 3, side, side),
            sizes=[(int(item.image.shape[1]), int(item.image.shape[2])) for item in items],
            targets=[item.target for item in items],
            image_ids=[record.id for record in records],
            files=[record.file_name for record in records],
            keys=[item.key for item in items],
        )

    def _spec(self, rng: np.random.Generator) -> InputSpec:
        """The spec with a size drawn from the list; the long edge's limit keeps its proportion to it."""
        edges = self.sampling.short_edges
        if not edges:
            return self.spec
        return scaled_spec(self.spec, int(edges[rng.integers(len(edges))]))


def scaled_spec(spec: InputSpec, size: int) -> InputSpec:
    """`spec` at another short edge or side of the square, its long-edge limit in proportion."""
    limit = None if spec.max_size is None else max(1, round(spec.max_size * size / spec.size))
    return replace(spec, size=size, max_size=limit)


def prepare_sample(
    sample: Sample,
    spec: InputSpec,
    config: Augment | None,
    rng: np.random.Generator,
    another: Another | None = None,
) -> tuple[Tensor, Objects]:
    """The network input (3, h, w) and the objects it shows, in the input frame.

    Without augmentation the input is exactly prediction's. With it the image is moved and scaled in one pass by the
    spec's filter, then normalised by the same function as in prediction; outside the image is the mean colour,
    which becomes zero as padding is, or is varied with the other colours. another: where mosaic and copy-paste find
    images.
    """
    if config is None:
        still = Choice(Geometry.resize(sample.size, input_size(sample.size, spec)))
        return resize_normalise(sample.image, spec), move_objects(sample.objects, still)
    mean = spec.mean if spec.channels == "RGB" else spec.mean[::-1]
    fill = (round(mean[0]), round(mean[1]), round(mean[2]))
    view = View(lambda size: input_size(size, spec), fill, antialias=spec.resize == "pillow")
    moved = vary(sample, config, rng, view, another)
    return normalise(moved.image, spec), moved.objects


def _follow_parent(worker: int) -> None:
    """A worker ends when its parent does, not before: Ctrl-C reaches every process of a terminal, but the parent has a
    step to finish; and where the parent is killed, a worker would wait for work for ever (torch looks whether the
    process that started it lives, which is a server since Python 3.14).
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_too() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_too, daemon=True).start()
