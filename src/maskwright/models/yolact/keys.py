"""Rules from the names of dbolya's YOLACT and YOLACT++ files, and of YolactEdge's in image mode, to ours.

Ours: `backbone.*` (torchvision's names of a ResNet and of MobileNetV2's `features`; `stem` and `stages.S.B` of
DarkNet), `fpn.{lateral,output}.L.0` with level 0 the finest (theirs is the coarsest), `fpn.extra.K.0`,
`protonet.{before.I.0,after.0,prototypes.0}`, `head.conv.I.conv`, `head.{deltas,logits,coefficients}`, `semantic`,
`scorer.conv.I.0`.

Rows of classes: in `head.logits` the background of each prior is last, in theirs it is first; no other tensor has one.

Letters: A priors of a cell, Q classes, S stage, B block, L level, I K number of a layer.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from torch import Tensor

from maskwright.weights.class_rows import ClassRows, RowTable
from maskwright.weights.keyrules import END, NORM, Converted, NameRule, NamingScheme, apply, unwrapped

SIGN = r"(module\.)?(net\.)?(proto_net|prediction_layers|semantic_seg_conv|fpn\.lat_layers|fpn_phase_1)\."
"""Matches the beginning of names that only these files have."""

_MOBILENET_STARTS = (0, 1, 2, 4, 7, 11, 14)
"""torchvision's number of the first block of each stage of MobileNetV2; it counts blocks across stages."""

_RESNET: tuple[NameRule, ...] = (
    NameRule(r"backbone\.(conv1\.weight|bn1\." + NORM + r")", r"backbone.\1"),
    NameRule(
        r"backbone\.layers\.([0-3])\.(\d+\.(?:bn[123]|conv[123]|downsample\.[01])\." + NORM + r")",
        lambda m: f"backbone.layer{int(m[1]) + 1}.{m[2]}",
    ),
    NameRule(
        r"backbone\.layers\.([0-3])\.(\d+\.conv2)\.conv_offset_mask\." + END,
        lambda m: f"backbone.layer{int(m[1]) + 1}.{m[2]}.sampling.{m[3]}",
    ),
    NameRule(r"backbone\.layer(?!s\.).*", None),  # files of version 1.0 contain every stage twice
)
_DARKNET: tuple[NameRule, ...] = (
    NameRule(r"backbone\._preconv\.([01])\." + NORM, r"backbone.stem.\1.\2"),
    NameRule(r"backbone\.layers\.([0-4])\.0\.([01])\." + NORM, r"backbone.stages.\1.0.\2.\3"),
    NameRule(r"backbone\.layers\.([0-4]\.\d+\.conv[12]\.[01])\." + NORM, r"backbone.stages.\1.\2"),
)
_MOBILENET: tuple[NameRule, ...] = (
    NameRule(r"backbone\.layers\.(7\.\d+|8)\.(conv\.)?\d+\.(\d+\.)?" + NORM, None),  # computed there, but never used
    NameRule(r"backbone\.layers\.0\.([01])\." + NORM, r"backbone.features.0.\1.\2"),
    NameRule(
        r"backbone\.layers\.([1-6])\.(\d+)\.(conv\.\d+\.(?:\d+\.)?" + NORM + r")",
        lambda m: f"backbone.features.{_MOBILENET_STARTS[int(m[1])] + int(m[2])}.{m[3]}",
    ),
)
_HEAD: tuple[NameRule, ...] = (
    NameRule(r"prediction_layers\.0\.upfeature\.(\d+)\." + END, lambda m: f"head.conv.{int(m[1]) // 2}.conv.{m[2]}"),
    NameRule(r"prediction_layers\.0\.bbox_layer\." + END, r"head.deltas.\1"),
    NameRule(r"prediction_layers\.0\.mask_layer\." + END, r"head.coefficients.\1"),
    NameRule(r"semantic_seg_conv\." + END, r"semantic.\1"),
    NameRule(r"maskiou_net\.maskiou_net\.(\d+)\." + END, lambda m: f"scorer.conv.{int(m[1]) // 2}.0.{m[2]}"),
    NameRule(r"(?:fpn|fpn_phase_2)\.downsample_layers\.([01])\." + END, r"fpn.extra.\1.0.\2"),
    # left over from older configs, never used
    NameRule(r"(?:fpn|fpn_phase_2)\.downsample_layers\.(\d+)\." + END, None),
)


def from_yolact(state: Mapping[str, Tensor]) -> Converted:
    """Weights of dbolya's models over ResNet, DarkNet and MobileNetV2, published or trained by users, with any number
    of classes, priors and layers. Parts that only YolactEdge's video models have keep their names."""
    state = unwrapped(state)
    return apply(rules(state), state, "yolact")


def rules(state: Mapping[str, Tensor]) -> tuple[NameRule, ...]:
    """The rules for one file: some depend on its numbers of levels, prototype layers and priors."""
    levels = _numbers(state, r"(?:fpn|fpn_phase_1)\.lat_layers\.(\d+)\." + END)
    layers = _numbers(state, r"proto_net\.(\d+)\." + END)
    boxes = state.get("prediction_layers.0.bbox_layer.bias")
    priors = max(boxes.numel() // 4, 1) if boxes is not None else 1
    return (
        *_RESNET,
        *_DARKNET,
        *_MOBILENET,
        NameRule(r"(?:fpn|fpn_phase_1)\.lat_layers\.(\d+)\." + END, partial(_level, "lateral", levels)),
        NameRule(r"(?:fpn|fpn_phase_2)\.pred_layers\.(\d+)\." + END, partial(_level, "output", levels)),
        NameRule(r"proto_net\.(\d+)\." + END, partial(_prototype_layer, layers)),
        NameRule(r"prediction_layers\.0\.conf_layer\." + END, r"head.logits.\1", _background_last(priors)),
        *_HEAD,
    )


def _numbers(names: Iterable[str], pattern: str) -> list[int]:
    """The different numbers that `pattern` captures, sorted."""
    return sorted({int(match[1]) for name in names if (match := re.fullmatch(pattern, name))})


def _level(kind: str, levels: list[int], match: re.Match[str]) -> str:
    """Their levels are counted from the coarsest one."""
    return f"fpn.{kind}.{len(levels) - 1 - int(match[1])}.0.{match[2]}"


def _prototype_layer(layers: list[int], match: re.Match[str]) -> str:
    """The last convolution outputs the prototypes, the one before it follows the upsampling."""
    place = layers.index(int(match[1])) if int(match[1]) in layers else -1
    from_end = len(layers) - place
    names = {1: "prototypes", 2: "after"}
    return f"protonet.{names.get(from_end, f'before.{place}')}.0.{match[2]}"


def _background_last(priors: int) -> Callable[[Tensor], Tensor]:
    """Move the first of each prior's Q + 1 rows to its end; another number of rows is left for loading to report."""

    def edit(rows: Tensor) -> Tensor:
        if len(rows) % priors:
            return rows
        moved: Tensor = rows.unflatten(0, (priors, -1)).roll(-1, dims=1).flatten(0, 1)
        return moved

    return edit


NAMES = (NamingScheme("yolact", SIGN, from_yolact),)

CLASS_ROWS: RowTable = {
    "head.logits.": ClassRows(1, 1, blocks=True),
    "semantic.": ClassRows(1, counts=True),
    "scorer.conv.5.": ClassRows(1),
}
