"""From a name or a file to a model that predicts."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from maskwright.errors import ConfigError, WeightsError, suggest
from maskwright.models import zoo
from maskwright.models.base import Model
from maskwright.models.families import family_of
from maskwright.models.yolact import NMSKind
from maskwright.ops import memory
from maskwright.predictor.predictor import Predictor, device_and_type
from maskwright.types import Classes, Fit
from maskwright.weights.files import WeightsFile, names_file, read, sniff
from maskwright.weights.load import load_file, load_into, which_fits

Names = Classes | Sequence[str]


def load(
    name: str | os.PathLike[str],
    weights: str | os.PathLike[str] | None = None,
    *,
    classes: Names | None = None,
    size: int | None = None,
    fit: Fit | None = None,
    nms: NMSKind | None = None,
    device: str = "cpu",
    precision: str = "float32",
    progress: bool = True,
) -> Predictor:
    """A model ready to predict.

    name: a name of the zoo (`maskwright models` lists them), whose published weights are fetched once and kept; or one
        of our checkpoints, which describes itself.
    weights: a checkpoint file for the named architecture instead of the published one: torchvision `.pth`, detectron2
        `.pkl` or `.pth`, YOLACT `.pth`, or ours. classes: names of its classes, if they are not the published ones.
    size: input short edge, or side of the square, in pixels (None: the model's own). precision: "float32" or "bf16".
    fit: "short_edge", "stretch" or "letterbox", as in `InputSpec` (None: the model's own).
    nms: how a YOLACT model suppresses: "fast", "fast_cross" (over all classes together) or "exact" (None: its own).
    progress: show a bar while fetching.
    Raises ConfigError for an unknown name, WeightsError for a file that does not fit, DownloadError.
    """
    device_and_type(device, precision)  # before anything is fetched or read
    if names_file(name):
        if weights is not None:
            raise ConfigError(f"{name} is a file already; give either it or a zoo name with weights={str(weights)!r}.")
        model, known = _from_checkpoint(Path(name))
    else:
        model, known = _from_zoo(str(name), weights, classes, progress, nms)
    if classes is not None:
        known = classes if isinstance(classes, Classes) else Classes(classes)
        if len(known) != model.config.num_classes:
            raise ConfigError(f"'{name}' has {model.config.num_classes} classes, got {len(known)} names.")
    if nms is not None:
        _check_nms(type(model), name, nms)
        model.choose_nms(nms)
    if fit is not None:
        model.spec = model.spec.fitted_by(fit)
    if size is not None:
        model.spec = replace(model.spec, size=size)
    predictor = Predictor(model, known, name=str(name), device=device, precision=precision, take=True)
    memory.give_back()
    return predictor


def build(name: str, classes: Names | None = None) -> Model:
    """The named model with random weights, for `classes` (names) or the published ones. ConfigError if unknown."""
    known = classes if classes is None or isinstance(classes, Classes) else Classes(classes)
    return zoo.resolve(name).build(known)


def _from_checkpoint(path: Path) -> tuple[Model, Classes]:
    file = read(path)
    if file.header is None:
        known = zoo.published_as(path)
        hint = "" if known is not None else which_fits(file, zoo.candidates())
        name = known.name if known is not None else "NAME"
        raise WeightsError(
            f"{path} holds weights but does not say of which network.{hint} Give the network's name too: "
            f"load({name!r}, weights={str(path)!r}); `maskwright models` lists the names."
        )
    return _rebuilt(file, file.header)


def _rebuilt(file: WeightsFile, header: Mapping[str, Any]) -> tuple[Model, Classes]:
    """The network that the header describes, with the file's weights; every error names the file."""
    model, classes = zoo.rebuild(header, file.path)
    if len(classes) != model.config.num_classes:
        raise WeightsError(f"{file.path} names {len(classes)} classes, its network has {model.config.num_classes}.")
    load_into(model, file.tensors, str(file.path))
    return model, classes


def _from_zoo(
    name: str, weights: str | os.PathLike[str] | None, classes: Names | None, progress: bool, nms: NMSKind | None
) -> tuple[Model, Classes]:
    entry = zoo.resolve(name)
    if nms is not None and entry.config is not None:
        _check_nms(family_of(entry.config).model, name, nms)
    path = Path(weights) if weights is not None else entry.path(progress)
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
    known = entry.classes if classes is None else Classes(list(classes))
    model = entry.build(known)
    load_file(model, path, zoo.candidates(), entry.publisher)
    zoo.check_name(path, entry)
    return model, known


def _check_nms(kind: type[Model], name: str | os.PathLike[str], nms: str) -> None:
    if not kind.nms_kinds:
        raise ConfigError(f"'{name}' has no choice of suppression; nms is for YOLACT models.")
    if nms not in kind.nms_kinds:
        raise ConfigError(f"nms is one of {', '.join(kind.nms_kinds)}, got {nms!r}.{suggest(nms, kind.nms_kinds)}")
