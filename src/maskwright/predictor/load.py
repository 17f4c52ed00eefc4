"""From a name or a file to a model that predicts."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from maskwright.errors import ConfigError, WeightsError
from maskwright.models import zoo
from maskwright.models.base import AnyModel
from maskwright.ops import memory
from maskwright.predictor.detector import NetworkDetector, device_and_type
from maskwright.predictor.options import LoadOptions, given
from maskwright.predictor.predictor import Predictor
from maskwright.runtimes.detector import RuntimeDetector
from maskwright.runtimes.table import kind_of
from maskwright.types import Classes, InputSpec, Intensity
from maskwright.weights.files import WeightsFile, names_file, read, sniff
from maskwright.weights.load import load_file, load_into, which_fits

ClassNames = Classes | Sequence[str]


def load(
    name: str | os.PathLike[str],
    weights: str | os.PathLike[str] | None = None,
    options: LoadOptions | None = None,
    **changes: Any,
) -> Predictor:
    """A model ready to predict.

    name: a name of the zoo (`maskwright models` lists them), whose published weights are fetched once and kept; or one
        of our checkpoints, or an exported file (`.onnx`, OpenVINO's `.xml`), which describe themselves.
    weights: a checkpoint file for the named architecture instead of the published one: torchvision `.pth`, detectron2
        `.pkl` or `.pth`, YOLACT `.pth`, or ours.
    options, or `changes` as keywords: see `LoadOptions`; `load("yolact_r50", size=400, device="cuda")`.
    Raises ConfigError for an unknown name or option, WeightsError for a file that does not fit, DownloadError.
    """
    options = given(LoadOptions, options, changes, "load")
    if kind_of(name) is not None:
        return _exported(Path(name), weights, options)
    device_and_type(options.device, options.precision)  # before anything is fetched or read
    if names_file(name):
        if weights is not None:
            raise ConfigError(f"{name} is a file already; give either it or a zoo name with weights={str(weights)!r}.")
        model, known = _from_checkpoint(Path(name))
    else:
        model, known = _from_zoo(str(name), weights, options)
    detector = NetworkDetector.of(
        model,
        _named(name, known, options),
        spec=_spec(model.config.spec, options),
        nms=options.nms,
        device=options.device,
        precision=options.precision,
        take=True,
    )
    memory.give_back()
    return Predictor(detector, name=str(name))


def _named(name: object, known: Classes, options: LoadOptions) -> Classes:
    """The names of the classes that the options choose."""
    if options.classes is None:
        return known
    if len(options.classes) != len(known):
        raise ConfigError(f"'{name}' has {len(known)} classes, got {len(options.classes)} names.")
    return options.classes


def _spec(spec: InputSpec, options: LoadOptions) -> InputSpec:
    """How images become the input, with what the options choose."""
    if options.fit is not None:
        spec = spec.fitted_by(options.fit)
    if options.size is not None:
        spec = replace(spec, size=options.size)
    if options.intensity is not None:
        spec = replace(spec, intensity=Intensity.of(options.intensity))
    return spec


def _exported(path: Path, weights: object, options: LoadOptions) -> Predictor:
    """An exported file, ready to predict. ConfigError for what is fixed in it."""
    fixed = {
        "weights": weights is not None,
        "nms": options.nms is not None,
        "device": options.device not in ("auto", "cpu"),
        "precision": options.precision not in ("auto", "float32"),
    }
    if asked := [name for name, given in fixed.items() if given]:
        raise ConfigError(
            f"{path} is an exported file, which runs on the processor as it was written, so it has no use for "
            f"{' and '.join(asked)}. Choose them for the model that is exported.",
            options=asked,
        )
    detector = RuntimeDetector.of(path)
    detector = detector.changed(_spec(detector.spec, options), _named(path, detector.classes, options))
    return Predictor(detector, name=str(path))


def build(name: str, classes: ClassNames | None = None) -> AnyModel:
    """The named model with random weights, for `classes` (names) or the published ones. ConfigError if unknown."""
    known = classes if classes is None or isinstance(classes, Classes) else Classes(classes)
    return zoo.build(zoo.resolve(name), known)


def _from_checkpoint(path: Path) -> tuple[AnyModel, Classes]:
    file = read(path)
    if file.header is None:
        known = zoo.published_as(path)
        hint = "" if known is not None else which_fits(file, zoo.known())
        name = known.name if known is not None else "NAME"
        raise WeightsError(
            f"{path} holds weights but does not say of which network.{hint} Give the network's name too: "
            f"load({name!r}, weights={str(path)!r}); `maskwright models` lists the names."
        )
    return _rebuilt(file, file.header)


def _rebuilt(file: WeightsFile, header: Mapping[str, Any]) -> tuple[AnyModel, Classes]:
    """The network that the header describes, with the file's weights; every error names the file."""
    model, classes = zoo.rebuild(header, file.path, file.tensors)
    if len(classes) != model.config.num_classes:
        raise WeightsError(f"{file.path} names {len(classes)} classes, its network has {model.config.num_classes}.")
    load_into(model, file.tensors, str(file.path))
    return model, classes


def _from_zoo(name: str, weights: str | os.PathLike[str] | None, options: LoadOptions) -> tuple[AnyModel, Classes]:
    entry = zoo.resolve(name)
    if options.nms is not None and entry.config is not None:
        entry.config.checked_nms(options.nms)  # before anything is fetched
    path = Path(weights) if weights is not None else entry.path(options.progress)
    if entry.inside is not None:
        if weights is not None:
            raise ConfigError(
                f"'{name}' is a checkpoint in the package. Yours describes itself too: load({str(path)!r})."
            )
        return _from_checkpoint(path)
    if sniff(path) == "safetensors" and (file := read(path)).header is not None:
        own = zoo.full_name(str(file.header["architecture"]))
        if own != entry.name:
            raise ConfigError(
                f"{path} holds the weights of '{own}', not of '{entry.name}'. It describes itself: load({str(path)!r})."
            )
        return _rebuilt(file, file.header)
    known = options.classes or entry.classes
    model = zoo.build(entry, known)
    load_file(model, path, zoo.known(), entry.publisher)
    zoo.check_name(path, entry)
    return model, known
