"""Every model by name: its config, its published weights, where they come from, what they reach.

A name is `architecture` or, where two publishers trained the architecture, `architecture.publisher`; the bare name
then means `DEFAULT_PUBLISHER`'s. `mask_rcnn_fpn.BACKBONE` takes any timm backbone: `mask_rcnn_fpn.convnext_tiny`.

Sources: detectron2's MODEL_ZOO.md (files carry the first 6 digits of their md5; CC BY-SA 3.0) and torchvision's model
pages (files carry the first 8 digits of their sha256; BSD-3-Clause). AP: COCO val2017, as published.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any

from maskwright.errors import ConfigError, WeightsError, suggest
from maskwright.models import rcnn, yolact
from maskwright.models.base import Model
from maskwright.models.coco_classes import COCO, COCO_BY_ID
from maskwright.models.config import from_dict
from maskwright.types import Classes
from maskwright.weights.fetch import Report, fetch
from maskwright.weights.load import Shapes, shapes_of

FAMILIES: Mapping[str, tuple[type[Model], type[Any]]] = MappingProxyType(
    {"rcnn": (rcnn.RCNN, rcnn.RCNNConfig), "yolact": (yolact.Yolact, yolact.YolactConfig)}
)
"""The model and the config class of every family; a checkpoint's header names its family."""

DEFAULT_PUBLISHER = "detectron2"
"""Whose weights a bare name means where there are two: the ones with the higher published AP."""


@dataclass(frozen=True)
class Published:
    """Trained weights. digest: the digits of the hash that the publisher gives. AP in percent, None if it has none."""

    publisher: str
    url: str
    digest: str
    licence: str
    megabytes: float
    box_ap: float | None
    mask_ap: float | None
    data: str = "COCO train2017"


@dataclass(frozen=True)
class Entry:
    """A model of the zoo.

    config: None where it is only known later: from the checkpoint in the package, or when a backbone is named.
    parameters: number of trainable values, without the statistics of norm layers. inside: file in the package.
    """

    name: str
    summary: str
    config: rcnn.RCNNConfig | None
    classes: Classes
    parameters: int | None = None
    weights: Published | None = None
    inside: str | None = None

    @property
    def publisher(self) -> str | None:
        """Whose conventions and names the weights have; None if they are ours."""
        return self.weights.publisher if self.weights else None

    def build(self, classes: Classes | None = None) -> Model:
        """The model with random weights, for `classes` or the published ones. ConfigError where a part is not named."""
        if self.config is None:
            raise ConfigError(
                f"'{self.name}' is rebuilt from its checkpoint; it cannot be built without."
                if self.inside
                else f"'{self.name}' needs a backbone: '{self.name}.NAME' with any timm model, e.g. "
                f"'{self.name}.convnext_tiny'."
            )
        return rcnn.RCNN(replace(self.config, num_classes=len(classes or self.classes)))

    def path(self, progress: bool | Report = True) -> Path:
        """The file of the weights: in the package, in the cache, or fetched now. WeightsError if there is none."""
        if self.inside:
            place = Path(str(files("maskwright.weights") / self.inside))
            if not place.is_file():
                raise WeightsError(f"The weights of '{self.name}' should be at {place}; install maskwright again.")
            return place
        if self.weights is None:
            raise WeightsError(f"'{self.name}' has no published weights. Train it, or give a file of yours.")
        return fetch(self.weights.url, self.weights.digest, progress=progress)


def _torchvision(
    name: str, summary: str, config: rcnn.RCNNConfig, parameters: int, file: str, size: float, *ap: float
) -> Entry:
    weights = Published(
        "torchvision",
        f"https://download.pytorch.org/models/{file}",
        f"sha256:{file.rpartition('-')[2].removesuffix('.pth')}",
        "BSD-3-Clause",
        size,
        ap[0],
        ap[1] if len(ap) > 1 else None,
    )
    return Entry(name, summary, config, COCO_BY_ID, parameters, weights)


def _detectron2(
    name: str, summary: str, config: rcnn.RCNNConfig, parameters: int, file: str, size: float, *ap: float
) -> Entry:
    task = "COCO-InstanceSegmentation" if config.masks else "COCO-Detection"
    weights = Published(
        "detectron2",
        f"https://dl.fbaipublicfiles.com/detectron2/{task}/{file}",
        f"md5:{file.rpartition('_')[2].removesuffix('.pkl')}",
        "CC-BY-SA-3.0",
        size,
        ap[0],
        ap[1] if len(ap) > 1 else None,
    )
    return Entry(name, summary, config, COCO, parameters, weights)


_ENTRIES = (
    Entry(
        "nuclei",
        "Mask R-CNN for cell nuclei in microscopy pictures, inside the package",
        None,
        Classes(["nucleus"]),
        7_272_278,
        inside="nuclei.safetensors",
    ),
    _detectron2(
        "faster_rcnn_r50_fpn.detectron2",
        "Faster R-CNN, ResNet-50, FPN, 3x schedule",
        rcnn.detectron2_fpn(masks=False),
        41_699_936,
        "faster_rcnn_R_50_FPN_3x/137849458/model_final_280758.pkl",
        167.2,
        40.2,
    ),
    _torchvision(
        "faster_rcnn_r50_fpn.torchvision",
        "Faster R-CNN, ResNet-50, FPN",
        rcnn.torchvision_v1(masks=False),
        41_751_186,
        "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth",
        167.5,
        37.0,
    ),
    _torchvision(
        "faster_rcnn_r50_fpn_v2",
        "Faster R-CNN, ResNet-50, FPN, batch norm throughout, trained for 400 epochs",
        rcnn.torchvision_v2(masks=False),
        43_708_178,
        "fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth",
        175.2,
        46.7,
    ),
    _detectron2(
        "faster_rcnn_r101_fpn",
        "Faster R-CNN, ResNet-101, FPN, 3x schedule",
        rcnn.detectron2_fpn(depth=101, masks=False),
        60_639_840,
        "faster_rcnn_R_101_FPN_3x/137851257/model_final_f6e8b1.pkl",
        243.4,
        42.0,
    ),
    _detectron2(
        "faster_rcnn_r50_c4",
        "Faster R-CNN, ResNet-50, stride-16 features, 3x schedule",
        rcnn.detectron2_c4(masks=False),
        33_791_644,
        "faster_rcnn_R_50_C4_3x/137849393/model_final_f97cb7.pkl",
        135.6,
        38.4,
    ),
    _detectron2(
        "mask_rcnn_r50_fpn.detectron2",
        "Mask R-CNN, ResNet-50, FPN, 3x schedule",
        rcnn.detectron2_fpn(),
        44_343_216,
        "mask_rcnn_R_50_FPN_3x/137849600/model_final_f10217.pkl",
        177.8,
        41.0,
        37.2,
    ),
    _torchvision(
        "mask_rcnn_r50_fpn.torchvision",
        "Mask R-CNN, ResNet-50, FPN",
        rcnn.torchvision_v1(),
        44_397_036,
        "maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth",
        178.1,
        37.9,
        34.6,
    ),
    _torchvision(
        "mask_rcnn_r50_fpn_v2",
        "Mask R-CNN, ResNet-50, FPN, batch norm throughout, trained for 400 epochs",
        rcnn.torchvision_v2(),
        46_355_052,
        "maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth",
        185.8,
        47.4,
        41.8,
    ),
    _detectron2(
        "mask_rcnn_r101_fpn",
        "Mask R-CNN, ResNet-101, FPN, 3x schedule",
        rcnn.detectron2_fpn(depth=101),
        63_283_120,
        "mask_rcnn_R_101_FPN_3x/138205316/model_final_a3ec72.pkl",
        254.0,
        42.9,
        38.6,
    ),
    _detectron2(
        "mask_rcnn_r50_c4",
        "Mask R-CNN, ResNet-50, stride-16 features, 3x schedule",
        rcnn.detectron2_c4(),
        35_909_612,
        "mask_rcnn_R_50_C4_3x/137849525/model_final_4ce675.pkl",
        144.1,
        39.8,
        34.4,
    ),
    Entry(
        "mask_rcnn_small",
        "Light Mask R-CNN for many small objects, to be trained from random weights",
        rcnn.compact(80),
        COCO,
        7_485_104,
    ),
    Entry("mask_rcnn_fpn", "Mask R-CNN, FPN, over any timm backbone: mask_rcnn_fpn.BACKBONE", None, COCO),
)

ZOO: Mapping[str, Entry] = MappingProxyType({entry.name: entry for entry in _ENTRIES})
"""Every entry by its full name."""


def resolve(name: str) -> Entry:
    """The entry of a full or bare name, or of `mask_rcnn_fpn.BACKBONE`. ConfigError names near misses."""
    bare, _, tag = name.partition(".")
    if name in ZOO:
        return ZOO[name]
    if not tag and (found := ZOO.get(f"{name}.{DEFAULT_PUBLISHER}")):
        return found
    if tag and bare in ZOO and ZOO[bare].publisher == tag:
        return ZOO[bare]
    if tag and bare == "mask_rcnn_fpn":
        return replace(ZOO[bare], name=name, summary=f"Mask R-CNN, FPN, timm's {tag}", config=rcnn.timm_fpn(tag))
    raise ConfigError(
        f"There is no model '{name}' in the zoo.{suggest(name, {*ZOO, *(n.partition('.')[0] for n in ZOO)})}"
    )


def rebuild(header: Mapping[str, Any]) -> tuple[Model, Classes]:
    """The network, with random weights, and the classes that the header of one of our checkpoints describes."""
    model, config, classes = network_of(header)
    return model(config), classes


def network_of(header: Mapping[str, Any]) -> tuple[type[Model], Any, Classes]:
    """The kind of network, its config and the classes that the header of one of our checkpoints describes."""
    family = header.get("family", "rcnn")
    if family not in FAMILIES:
        raise WeightsError(f"There is no model family '{family}'.{suggest(str(family), FAMILIES)}")
    model, config = FAMILIES[family]
    classes = Classes(header["classes"]["names"], header["classes"]["ids"])
    return model, from_dict(config, header["config"]), classes


def describe(model: Model, classes: Classes, architecture: str) -> dict[str, Any]:
    """The header from which `rebuild` makes the same network again."""
    family = next(name for name, (kind, _) in FAMILIES.items() if type(model) is kind)
    return {
        "architecture": architecture,
        "family": family,
        "config": asdict(model.config),
        "classes": {"names": list(classes.names), "ids": list(classes.ids)},
    }


def candidates() -> Mapping[str, Callable[[], Shapes]]:
    """For each entry with a config, names and shapes of its weights; says which entry a file fits."""

    def shapes(entry: Entry) -> Callable[[], Shapes]:
        return lambda: shapes_of(entry.build)

    return {name: shapes(entry) for name, entry in ZOO.items() if entry.config is not None}


def table() -> list[dict[str, Any]]:
    """One row of JSON values per entry; `default_of` is the bare name that means it."""
    return [_row(entry) for entry in ZOO.values()]


def _row(entry: Entry) -> dict[str, Any]:
    bare, _, tag = entry.name.partition(".")
    weights = entry.weights
    inside = Path(str(files("maskwright.weights") / entry.inside)) if entry.inside else None
    megabytes = weights.megabytes if weights else None
    if inside is not None and inside.is_file():
        megabytes = round(inside.stat().st_size / 1e6, 1)
    return {
        "name": entry.name,
        "default_of": bare if tag == DEFAULT_PUBLISHER else None,
        "summary": entry.summary,
        "classes": len(entry.classes),
        "parameters": entry.parameters,
        "megabytes": megabytes,
        "box_ap": weights.box_ap if weights else None,
        "mask_ap": weights.mask_ap if weights else None,
        "data": weights.data if weights else None,
        "licence": weights.licence if weights else "Apache-2.0" if entry.inside else None,
        "publisher": weights.publisher if weights else "maskwright" if entry.inside else None,
        "source": weights.url if weights else "in the package" if entry.inside else None,
    }
