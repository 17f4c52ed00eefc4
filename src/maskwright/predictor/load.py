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
from maskwright.types import Classes, Intensity
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
        of our checkpoints, which describes itself.
    weights: a checkpoint file for the named architecture instead of the published one: torchvision `.pth`, detectron2
        `.pkl` or `.pth`, YOLACT `.pth`, or ours.
    options, or `changes` as keywords: see `LoadOptions`; `load("yolact_r50", size=400, device="cuda")`.
    Raises ConfigError for an unknown name or option, WeightsError for a file that does not fit, DownloadError.
    """
    options = given(LoadOptions, options, changes, "load")
    device_and_type(options.device, options.precision)  # before anything is fetched or read
    if names_file(name):
        if weights is not None:
            raise ConfigError(f"{name} is a file already; give either it or a zoo name with weights={str(weights)!r}.")
        model, known = _from_checkpoint(Path(name))
    else:
        model, known = _from_zoo(str(name), weights, options)
    if options.classes is not None:
        known = options.classes
        if len(known) != model.config.num_classes:
            raise ConfigError(f"'{name}' has {model.config.num_classes} classes, got {len(known)} names.")
    spec = model.config.spec
    if options.fit is not None:
        spec = spec.fitted_by(options.fit)
    if options.size is not None:
        spec = replace(spec, size=options.size)
    if options.intensity is not None:
        spec = replace(spec, intensity=Intensity.of(options.intensity))
    detector = NetworkDetector.of(
        model,
        known,
        spec=spec,
        nms=options.nms,
        device=options.device,
        precision=options.precision,
        take=True,
    )
    memory.give_back()
    return Predictor(detector, name=str(name))


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
