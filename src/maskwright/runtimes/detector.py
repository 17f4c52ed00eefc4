"""An exported file as what a `Predictor` runs. Images become its input and rows become instances in Python, as for a
network."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maskwright.errors import ConfigError, WeightsError
from maskwright.models.base import Config
from maskwright.runtimes.header import Header, parsed
from maskwright.runtimes.runtime import Runtime, Values
from maskwright.runtimes.table import KINDS, kind_of
from maskwright.types import Classes, Inputs, InputSpec, Limits, OutputSpec, Part, RawDetections, Semantic, Size


@dataclass(frozen=True)
class _Place:
    """Where a file is, and for how many threads it is opened."""

    path: Path
    kind: str
    threads: int

    def opened(self) -> Runtime:
        return KINDS[self.kind].open(self.path, self.threads)


class RuntimeDetector:
    """A file that ONNX Runtime or OpenVINO runs, on the processor; see `predictor.detector.Detector`.

    Images of a batch are computed one by one. The number of rows is that of the file.
    """

    def __init__(self, place: _Place, runtime: Runtime, header: Header) -> None:
        self.place, self.runtime, self.header = place, runtime, header
        self.device, self.dtype = torch.device("cpu"), torch.float32

    @classmethod
    def of(cls, path: str | os.PathLike[str], threads: int | None = None) -> "RuntimeDetector":
        """The file at `path`. threads: None takes as many as torch uses.

        Raises WeightsError, naming the file, where there is none, where it is damaged, or where `maskwright export` has
        not written it; MissingExtraError.
        """
        path, kind = Path(path), kind_of(path)
        assert kind is not None
        if not path.is_file():
            raise WeightsError(f"There is no file {path}. Write one: maskwright export MODEL --out {path}.")
        place = _Place(path.absolute(), kind, threads or torch.get_num_threads())
        runtime = place.opened()
        return cls(place, runtime, parsed(runtime.header, path))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "runtime": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, runtime=state["place"].opened())

    @property
    def config(self) -> Config:
        return self.header.config

    @property
    def spec(self) -> InputSpec:
        return self.header.config.spec

    @property
    def output(self) -> OutputSpec:
        return self.header.config.output

    @property
    def classes(self) -> Classes:
        return self.header.classes

    @property
    def limits(self) -> Limits:
        return self.header.limits

    @property
    def parts(self) -> tuple[type[Part], ...]:
        return self.header.config.parts

    @property
    def precision(self) -> str:
        return self.header.precision

    def lowest_score(self, limits: Limits) -> float:
        return self.header.config.lowest_score(limits)

    def content(self) -> bytes:
        """The bytes of the file, and of the one beside it."""
        beside = KINDS[self.place.kind].beside
        paths = [self.place.path, *([self.place.path.with_suffix(beside)] if beside else [])]
        return b"".join(path.read_bytes() for path in paths)

    def changed(self, spec: InputSpec, classes: Classes) -> "RuntimeDetector":
        """The same file with another `InputSpec` and other names of its classes."""
        config = replace(self.header.config, spec=spec)
        return RuntimeDetector(self.place, self.runtime, replace(self.header, config=config, classes=classes))

    def detect(self, inputs: Inputs, limits: Limits) -> RawDetections:
        self._check(inputs, limits)
        rows = [self._one(inputs, i) for i in range(len(inputs))]
        values = {name: torch.cat([row[name] for row in rows]) for name in rows[0]}
        parts = tuple(_part(kind, values, inputs.padded, self.header.semantic) for kind in self.parts)
        labels = values["labels"].long()
        return RawDetections(values["boxes"], values["scores"], labels, parts)

    def _check(self, inputs: Inputs, limits: Limits) -> None:
        own, name = self.header, self.place.path.name
        if not len(inputs):
            raise ConfigError(f"{name} runs on at least one image, got a batch of none.")
        if inputs.proposals is not None:
            raise ConfigError(f"{name} finds its own boxes, it cannot be given any. Give them to the model itself.")
        if limits.keep > own.limits.keep:
            raise ConfigError(
                f"{name} has room for {own.limits.keep} instances of an image, got {limits.keep}. Export it with more, "
                "or ask for fewer.",
                options=("max_instances",),
            )
        if limits != replace(own.limits, keep=limits.keep):
            raise ConfigError(f"{name} finds by {own.limits}, which cannot be changed, got {limits}.")
        if own.input is not None and inputs.padded != own.input:
            (h, w), (high, wide) = own.input, inputs.padded
            raise ConfigError(
                f"{name} takes inputs of {w} x {h} pixels alone, got {wide} x {high}. Load the model with that size "
                "and export it again.",
                options=("size",),
            )

    def _one(self, inputs: Inputs, i: int) -> dict[str, Tensor]:
        image = np.ascontiguousarray(inputs.images[i : i + 1].float().numpy())
        return _tensors(self.runtime.run(image, np.array(inputs.sizes[i], np.int64)))


def _tensors(values: Values) -> dict[str, Tensor]:
    return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in values.items()}


def _part(kind: type[Part], values: Mapping[str, Tensor], span: Size, semantic: Classes | None) -> Part:
    """A part from its tensors, which have the names that `RawDetections.tensors` gives them."""
    given: dict[str, Any] = {"span": span}
    if kind is Semantic:
        given["classes"] = semantic
    given |= {f.name: values.get(f"{kind.__name__}.{f.name}") for f in fields(kind) if f.name not in given}
    known = {f.name for f in fields(kind)}
    return kind(**{name: value for name, value in given.items() if name in known})
