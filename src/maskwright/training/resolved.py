"""A training run with everything decided: what the loop is given, and what its files keep."""

import hashlib
import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Self

import numpy as np

from maskwright.codec import filled
from maskwright.data.dataset import Dataset
from maskwright.samples.augment import Augment
from maskwright.samples.loader import Sampling
from maskwright.training.config import AUGMENT, PATHS, SECTIONS, USUAL, TrainConfig
from maskwright.types import SearchSpec

FREE_ON_RESUME = frozenset(
    PATHS[name]
    for name in (
        *("data", "images", "data_format", "val", "val_images", "out", "workers", "device"),
        *("resume", "checkpoint_minutes", "progress", "log_every", "tensorboard", "report", "patience", "min_delta"),
    )
)
"""Settings that may differ when a run is resumed; the others decide the weights."""

LENGTH_ON_RESUME = frozenset(PATHS[name] for name in ("epochs", "max_minutes"))
"""Settings that decide the weights and may differ all the same, which is told: a run can be made longer."""


class Resolved(TrainConfig):
    """A `TrainConfig` in which every setting has a value; what is UNSET gets its fallback.

    reasons: why, by path as `learning.lr`, for each setting that was decided from the data.
    """

    reasons: Mapping[str, str]

    def __init__(self, *, reasons: Mapping[str, str] = MappingProxyType({}), **given: Any) -> None:
        super().__init__(**given)
        object.__setattr__(self, "reasons", reasons)
        for section in SECTIONS:
            object.__setattr__(self, section, filled(getattr(self, section)))
        if self.is_open(AUGMENT):
            object.__setattr__(self, AUGMENT, USUAL)

    @classmethod
    def of(cls, config: TrainConfig, reasons: Mapping[str, str] = MappingProxyType({})) -> Self:
        """The config with fallbacks for all that is UNSET; one that is resolved already as it is."""
        if isinstance(config, cls):
            return config
        own: dict[str, Any] = {name: getattr(config, name) for name in (*SECTIONS, AUGMENT)}
        return cls(reasons=reasons, **own)

    def sampling(self, *, masks: bool = True, search: SearchSpec | None = None) -> Sampling:
        """How the training batches are drawn. masks: whether the outlines are needed. search: how proposals are found
        for a network that is given them."""
        return Sampling(
            batch_size=self.batches.batch_size,
            seed=self.compute.seed,
            epochs=self.length.epochs,
            repeats=self.batches.repeats,
            augment=self.augment if self.augment is None or self.batches.mirror else self.augment.unmirrored(),
            short_edges=self.batches.short_edges,
            keep_empty=self.batches.keep_empty,
            masks=masks,
            search=search,
            workers=self.batches.workers,
        )

    def explained(self, *names: str) -> list[str]:
        """The decided settings (these, or all) with their reasons, a line each: `lr = 0.0004: ...`."""
        known = [name for name in names or PATHS if PATHS[name] in self.reasons]
        return [f"{name} = {shown(self.value(name))}: {self.reasons[PATHS[name]]}" for name in known]


def shown(value: Any) -> str:
    """A setting as it is shown to a person."""
    if value is None:
        return "no limit"
    if isinstance(value, Augment):
        changed = {"flip_horizontal": value.flip_horizontal}  # always shown: left and right may differ in meaning
        changed |= {k: v for k, v in vars(value).items() if v != getattr(USUAL, k)}
        return ", ".join(f"{k} {shown(v)}" for k, v in changed.items())
    if isinstance(value, tuple):
        return " ".join(shown(v) for v in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


# ---- what decides the weights ---------------------------------------------------------------------------------------


def fingerprint(settings: Resolved, data: Dataset) -> dict[str, str]:
    """What decides the weights of a run: each such setting by its path, as JSON, and a digest of the annotations."""
    digest = hashlib.sha256()
    for record in data.images:
        digest.update(repr((record.file_name, record.size)).encode())
        for a in data.annotations[record.id]:
            digest.update(repr((a.id, a.label, a.box, a.crowd)).encode())
            outline = a.segmentation if isinstance(a.segmentation, (list, tuple)) else (a.segmentation,)
            for part in (*outline, a.keypoints):
                digest.update(part.tobytes() if isinstance(part, np.ndarray) else repr(part).encode())
    kept = {path: json.dumps(v) for path, v in settings.values().items() if path not in FREE_ON_RESUME}
    return {**kept, "annotations": digest.hexdigest()[:16]}


def upgraded(fingerprint: Mapping[str, str]) -> dict[str, str]:
    """A fingerprint of an earlier version, without sections or with fewer settings, as this one writes it."""
    out = {PATHS.get(name, name): value for name, value in fingerprint.items()}
    out.setdefault(PATHS["intensity"], "null")
    out.setdefault(PATHS["backbone_weights"], '"none"')
    out.setdefault(PATHS["rename"], "[]")
    if out.get(PATHS["norm"]) == '"auto"':
        out[PATHS["norm"]] = "null"
    out.setdefault(PATHS["mirror"], "true")
    return out
