"""Training batches whose order and augmentation depend only on the seed, the epoch and the image.

A run that was stopped continues with exactly the batches that would have followed. Several processes share the images
of each batch: together they see the batches that one process would.

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

from maskwright.codec import Section, ranged
from maskwright.data.dataset import Dataset
from maskwright.errors import ConfigError, DataError, MaskwrightError, TrainingError
from maskwright.ops.warp import pad_batch
from maskwright.samples.augment import Augment
from maskwright.samples.inputs import prepare_samples, scaled_spec
from maskwright.samples.sample import Sample, sample_of
from maskwright.samples.searched import Searched
from maskwright.types import Inputs, InputSpec, IntArray, SearchSpec, Size, Target
from maskwright.wording import counted

ORDER, AUGMENTATION = 0, 1
"""Separate the random streams of the order of the images and of their augmentation."""


@dataclass(frozen=True)
class Sampling(Section):
    """How batches are drawn.

    batch_size: images of all processes together; the last batch of an epoch may be smaller. seed: any integer from 0.
    epochs: None for no end. repeats: how often an epoch shows each image, each time augmented differently. augment:
    None prepares images as prediction does. short_edges: one of these input sizes is drawn for each image; empty: the
    spec's own. keep_empty: also show images without objects. masks: draw the masks; False trains on boxes alone.
    search: how proposals are found for a network that is given them. workers: processes that prepare images; 0: this
    process.
    """

    batch_size: int = ranged(2, low=1)
    seed: int = ranged(0, low=0)
    epochs: int | None = ranged(1, low=0)
    repeats: int = ranged(1, low=1)
    augment: Augment | None = None
    short_edges: tuple[int, ...] = ranged((), low=1)
    keep_empty: bool = True
    masks: bool = True
    search: SearchSpec | None = None
    workers: int = ranged(0, low=0)


@dataclass(frozen=True, slots=True)
class SampleKey:
    """A sample: its epoch, the number of its batch, the position of the image in the data set, the repeat.

    frames: positions of further images of the same clip, which are augmented as the image is (see
    `Dataset.previous_frames`).
    """

    epoch: int
    number: int
    position: int
    repeat: int = 0
    frames: tuple[int, ...] = ()


@dataclass(eq=False)
class Batch:
    """The images of one step; none where this process has no share in the batch.

    images: (B, 3, H, W) float32 normalised, padded right and bottom with zeros. sizes: (h, w) of each without the
    padding. targets: in the input frame, one per image; proposals: likewise (P, 4), for a network that is given them.
    image_ids, files, keys: one per image. frames: a batch of the
    first further frame of every image, one of the second, and so on.
    """

    images: Tensor
    sizes: list[Size]
    targets: list[Target]
    image_ids: list[int]
    files: list[str]
    keys: list[SampleKey]
    proposals: list[Tensor] | None = None
    frames: "tuple[Batch, ...]" = ()

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def inputs(self) -> Inputs:
        """The images as a model takes them."""
        return Inputs(self.images, tuple(self.sizes), self.proposals)

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

        Crowd flags that are all false become None: testing them on the device would wait for it.
        """
        if self.images.device == device:
            return self
        targets = [
            replace(t, boxes=t.boxes.to(device), labels=t.labels.to(device),
                    crowd=t.crowd.to(device) if t.crowd is not None and bool(t.crowd.any()) else None,
                    keypoints=None if t.keypoints is None else t.keypoints.to(device),
                    semantic=None if t.semantic is None else t.semantic.to(device))
            for t in self.targets
        ]  # fmt: skip
        proposals = None if self.proposals is None else [boxes.to(device) for boxes in self.proposals]
        frames = tuple(frame.to(device) for frame in self.frames)
        images = self.images.to(device, non_blocking=True)
        return replace(self, images=images, targets=targets, proposals=proposals, frames=frames)


def order(positions: IntArray, seed: int, epoch: int, repeats: int = 1) -> IntArray:
    """The positions of the images of one epoch, shuffled, `repeats` times; determined by seed and epoch."""
    rng = np.random.default_rng([ORDER, seed, epoch])
    return np.concatenate([rng.permutation(positions) for _ in range(repeats)])


def usable(dataset: Dataset, *, keep_empty: bool) -> IntArray:
    """Positions of the images to train on. Raises DataError where none has an object that is no crowd."""
    full = [i for i in range(len(dataset)) if any(not a.crowd for a in dataset.of(i))]
    if not full:
        dataset.require_objects()
    return np.arange(len(dataset)) if keep_empty else np.array(full, np.int64)


class Batches:
    """The batches of all epochs of a run, from any batch on.

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
            generator=torch.Generator(),  # the loader draws a seed: not from the global stream
        )
        return _unwrapped(loader)

    def keys(self, epoch: int, number: int) -> Iterator[list[SampleKey]]:
        """The keys of this process's share of each batch, without reading an image."""
        s, (mine, processes) = self.sampling, self.share
        for now in itertools.count(epoch) if s.epochs is None else range(epoch, s.epochs):
            shuffled = order(self.positions, s.seed, now, s.repeats)
            for batch in range(number if now == epoch else 0, len(self)):
                begin = batch * s.batch_size
                count = min(s.batch_size, len(shuffled) - begin)
                places = range(begin + count * mine // processes, begin + count * (mine + 1) // processes)
                yield [SampleKey(now, batch, int(shuffled[i]), i // len(self.positions)) for i in places]


class _Keys:
    """`Batches.keys` as the batch sampler of a DataLoader."""

    def __init__(self, batches: Batches, epoch: int, number: int) -> None:
        self.batches, self.epoch, self.number = batches, epoch, number

    def __iter__(self) -> Iterator[list[SampleKey]]:
        return self.batches.keys(self.epoch, self.number)


@dataclass(frozen=True, eq=False)
class Item:
    """One prepared image (3, h, w) with its target. proposals: see `Batch`. least: its smallest padded side. frames:
    see `SampleKey`."""

    image: Tensor
    target: Target
    key: SampleKey
    proposals: Tensor | None = None
    least: int = 0
    frames: "tuple[Item, ...]" = ()


class _Reported(TorchDataset[Item | MaskwrightError]):
    """Samples, or the error in place of one: an error raised in a worker arrives wrapped in its traceback."""

    def __init__(self, samples: "TrainingSamples") -> None:
        self.samples = samples

    def __getitem__(self, key: SampleKey) -> Item | MaskwrightError:
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

    A batch lies in the memory of the worker that made it, so it is lost where that worker ends before it is received.
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
            raise _ended(f"its batch was lost ({type(error).__name__}).") from error
        if isinstance(batch, MaskwrightError):
            raise batch
        yield batch


def _ended(cause: object) -> TrainingError:
    return TrainingError(
        f"A process that prepares images ended: {cause} Often memory ran out: use fewer workers. "
        f"Where the run's folder has last.state, resume continues from it; otherwise start the run again."
    )


@contextmanager
def worker_failures_explained() -> Iterator[None]:
    """Turns torch's report that a worker process has ended, which may come anywhere, into a TrainingError."""
    try:
        yield
    except RuntimeError as error:
        cause: BaseException | None = error  # the interrupted code may have raised another error on top
        while cause is not None and "DataLoader worker" not in str(cause):
            cause = cause.__context__
        if isinstance(error, MaskwrightError) or cause is None:
            raise
        raise _ended(cause) from error


class TrainingSamples(TorchDataset[Item]):
    """Prepared images by `SampleKey`; a key always gives the same item."""

    def __init__(self, dataset: Dataset, spec: InputSpec, sampling: Sampling) -> None:
        self.dataset, self.spec, self.sampling = replace(dataset, intensity=spec.intensity), spec, sampling
        self.with_masks = sampling.masks and dataset.has_masks
        if sampling.masks and not self.with_masks:
            rows = [(i, a) for i in range(len(dataset)) for a in dataset.of(i)]
            bare = [dataset.where(i, a) for i, a in rows if a.segmentation is None]
            some = ", ".join(bare[:3]) + (", ..." if len(bare) > 3 else "")
            raise DataError(
                f"{dataset.source}: {len(bare)} of {counted(len(rows), 'annotation')} have a box but no outline "
                f"({some}). Complete them, or train a model of boxes alone, such as faster_rcnn_small.",
                options=("model",),
            )
        if sampling.augment is not None and sampling.augment.copy_paste > 0 and not self.with_masks:
            raise ConfigError(f"{dataset.source}: copy_paste needs outlines, training is on boxes alone. Set it to 0.")
        self.searched = None if sampling.search is None else Searched(sampling.search)
        self.shown, self.filled = (usable(dataset, keep_empty=empty) for empty in (sampling.keep_empty, False))

    def __getitem__(self, key: SampleKey) -> Item:
        samples = [self.sample(position) for position in (key.position, *self._checked_frames(key))]
        repeat = [key.repeat] if key.repeat else []  # the first repeat does not depend on their number
        rng = np.random.default_rng([AUGMENTATION, self.sampling.seed, key.epoch, key.position, *repeat])
        spec, augment = self._spec(rng), self.sampling.augment
        windowed = augment is not None and augment.crop is not None  # a window is not padded to the square
        least = 0 if windowed else spec.square
        main, *others = prepare_samples(samples, spec, augment, rng, self.another)
        keys = (replace(key, position=position, frames=()) for position in key.frames)
        frames = tuple(Item(p.image, p.target, k, p.proposals, least) for p, k in zip(others, keys, strict=True))
        return Item(main.image, main.target, key, main.proposals, least, frames)

    def _checked_frames(self, key: SampleKey) -> tuple[int, ...]:
        """Raises DataError for frames of another clip or size, ConfigError where they cannot be augmented alike."""
        augment, main = self.sampling.augment, self.dataset.images[key.position]
        if key.frames and augment is not None and (augment.copy_paste or augment.mosaic):
            raise ConfigError(
                "Augment: copy_paste and mosaic cannot change several frames of a clip alike. Set both to 0."
            )
        for record in (self.dataset.images[position] for position in key.frames):
            names = f"{self.dataset.source}: {record.file_name} and {main.file_name}"
            if record.frame is None or main.frame is None or record.frame.clip != main.frame.clip:
                raise DataError(f"{names} are not frames of one clip.")
            if record.size != main.size:
                raise DataError(f"{names}, frames of one clip, are {record.size} and {main.size}: sizes must be equal.")
        return key.frames

    def sample(self, position: int) -> Sample:
        """An image of the data set with its annotations, not augmented."""
        sample = sample_of(self.dataset, position, masks=self.with_masks)
        if self.searched is None:
            return sample
        return replace(sample, proposals=self.searched.boxes(position, sample.image))

    def another(self, rng: np.random.Generator, *, filled: bool) -> Sample:
        """A randomly drawn image of those that are shown; filled: of those that have an object."""
        positions = self.filled if filled else self.shown
        return self.sample(int(positions[rng.integers(len(positions))]))

    def collate(self, items: Sequence[Item]) -> Batch:
        """Pad and stack the items; none give an empty batch. Raises ConfigError for unequal numbers of frames."""
        if len({len(item.frames) for item in items}) > 1:
            raise ConfigError(f"Samples of one batch have equally many frames, got {[len(i.frames) for i in items]}.")
        side, least = self.spec.multiple, max((item.least for item in items), default=0)
        records = [self.dataset.images[item.key.position] for item in items]
        return Batch(
            images=pad_batch([item.image for item in items], side, least) if items else torch.zeros(0, 3, side, side),
            sizes=[(int(item.image.shape[1]), int(item.image.shape[2])) for item in items],
            targets=[item.target for item in items],
            image_ids=[record.id for record in records],
            files=[record.file_name for record in records],
            keys=[item.key for item in items],
            proposals=None
            if self.searched is None
            else [item.proposals for item in items if item.proposals is not None],
            frames=tuple(map(self.collate, zip(*(item.frames for item in items), strict=True))),
        )

    def _spec(self, rng: np.random.Generator) -> InputSpec:
        """The spec with a size drawn from `short_edges`, its long-edge limit in proportion."""
        edges = self.sampling.short_edges
        if not edges:
            return self.spec
        return scaled_spec(self.spec, int(edges[rng.integers(len(edges))]))


def _follow_parent(worker: int) -> None:
    """Make a worker end when its parent does, not before and not later.

    Ctrl-C reaches every process of a terminal, but the parent still finishes its step. Where the parent is killed, a
    worker would wait for work for ever: torch watches the process that started it, which is a server since Python 3.14.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_too() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_too, daemon=True).start()
