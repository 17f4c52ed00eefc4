"""Published names of R-CNN weights to ours, for torchvision and detectron2: each name is matched by exactly one rule.

Ours: `backbone.*` with torchvision's and timm's ResNet names, `fpn.lateral.L.0`, `fpn.output.L.0` (level 0 has stride
4; a norm is `.1`), `rpn.conv.I.0`, `rpn.logits`, `rpn.deltas`, `box_head.conv.I.{0,1}`, `box_head.fcN`,
`box_predictor.{classes,deltas}`, `mask_head.conv.I.{0,1}`, `mask_head.{deconv,logits}`, `keypoint_head.conv.I.0`,
`keypoint_head.deconv`, `semantic_head.levels.L.I.{0,1}`, `semantic_head.logits`, `res5.B.*` (C4).

Rows of classes: ours have the background last in `classes` and nowhere else. torchvision has it first everywhere, so
its row is moved (`classes`) or dropped (`deltas`, mask `logits`: they are never read for the background).
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from maskwright.weights.class_rows import ClassRows, RowTable
from maskwright.weights.keyrules import END, NORM, Converted, NameRule, NamingScheme, apply


def _background_last(rows: Tensor) -> Tensor:
    return torch.cat([rows[1:], rows[:1]])


def _without_background(rows: Tensor) -> Tensor:
    return rows[1:].clone()


def _without_background_box(rows: Tensor) -> Tensor:
    return rows[4:].clone()


_STAGE = {"res2": "layer1", "res3": "layer2", "res4": "layer3", "res5": "layer4"}


def _level(match: re.Match[str]) -> str:
    """detectron2 counts FPN levels from 2."""
    return f"fpn.{match[1]}.{int(match[2]) - 2}.{1 if match[3] else 0}.{match[4]}"


def _counted_from_1(match: re.Match[str]) -> str:
    """Heads whose layers are counted from 1. Groups: their prefix, the number, the norm, the ending."""
    prefix = match[1].partition(".")[0]
    return f"{prefix}.conv.{int(match[2]) - 1}.{1 if match[3] else 0}.{match[4]}"


def _semantic_layer(match: re.Match[str]) -> str:
    """detectron2 counts the levels from 2, and the upsampling between the layers."""
    return f"semantic_head.levels.{int(match[1]) - 2}.{int(match[2]) // 2}.{1 if match[3] else 0}.{match[4]}"


def _layers_and_relus(match: re.Match[str]) -> str:
    """torchvision counts the ReLUs between the layers of the keypoint head."""
    return f"keypoint_head.conv.{int(match[1]) // 2}.0.{match[2]}"


def _detectron2_block(match: re.Match[str]) -> str:
    """`res4.5.conv2.norm.weight` becomes `layer3.5.bn2.weight`; the head of C4 stays `res5`."""
    stage = "res5" if match["head"] else f"backbone.{_STAGE[match['stage']]}"
    layer, norm, end = match["layer"], match["norm"], match["end"]
    if layer == "shortcut":
        return f"{stage}.{match['block']}.downsample.{1 if norm else 0}.{end}"
    return f"{stage}.{match['block']}.{'bn' if norm else 'conv'}{layer[-1]}.{end}"


_BODY = r"backbone\.(?:bottom_up\.)?"
_BLOCK = r"(?P<block>\d+)\.(?P<layer>conv[123]|shortcut)\.(?P<norm>norm\.)?(?P<end>" + NORM[1:]

DETECTRON2: tuple[NameRule, ...] = (
    NameRule(_BODY + r"stem\.conv1\.weight", "backbone.conv1.weight"),
    NameRule(_BODY + r"stem\.conv1\.norm\." + NORM, r"backbone.bn1.\1"),
    NameRule(r"(?P<head>)" + _BODY + r"(?P<stage>res[2-5])\." + _BLOCK, _detectron2_block),
    NameRule(r"(?P<head>roi_heads)\.(?P<stage>res5)\." + _BLOCK, _detectron2_block),
    NameRule(r"backbone\.fpn_(lateral|output)([2-5])\.(norm\.)?" + NORM, _level),
    NameRule(r"proposal_generator\.rpn_head\.conv\." + END, r"rpn.conv.0.0.\1"),
    NameRule(r"proposal_generator\.rpn_head\.conv\.conv(\d+)\." + END, r"rpn.conv.\1.0.\2"),
    NameRule(r"proposal_generator\.rpn_head\.objectness_logits\." + END, r"rpn.logits.\1"),
    NameRule(r"proposal_generator\.rpn_head\.anchor_deltas\." + END, r"rpn.deltas.\1"),
    NameRule(r"roi_heads\.(box_head\.conv)(\d+)\.(norm\.)?" + NORM, _counted_from_1),
    NameRule(r"roi_heads\.box_head\.fc(\d+)\." + END, r"box_head.fc\1.\2"),
    NameRule(r"roi_heads\.box_predictor\.cls_score\." + END, r"box_predictor.classes.\1"),
    NameRule(r"roi_heads\.box_predictor\.bbox_pred\." + END, r"box_predictor.deltas.\1"),
    NameRule(r"roi_heads\.(mask_head\.mask_fcn)(\d+)\.(norm\.)?" + NORM, _counted_from_1),
    NameRule(r"roi_heads\.mask_head\.deconv\." + END, r"mask_head.deconv.\1"),
    NameRule(r"roi_heads\.mask_head\.predictor\." + END, r"mask_head.logits.\1"),
    NameRule(r"roi_heads\.(keypoint_head\.conv_fcn)(\d+)()\." + END, _counted_from_1),
    NameRule(r"roi_heads\.keypoint_head\.score_lowres\." + END, r"keypoint_head.deconv.\1"),
    NameRule(r"sem_seg_head\.p([2-5])\.(\d+)\.(norm\.)?" + END, _semantic_layer),
    NameRule(r"sem_seg_head\.predictor\." + END, r"semantic_head.logits.\1"),
    NameRule(r"proposal_generator\.anchor_generator\.cell_anchors\.\d+", None),
    NameRule(r"pixel_(mean|std)", None),
)

_TV_BLOCK = r"layer[1-4]\.\d+\.(?:conv[123]|bn[123]|downsample\.[01])\." + NORM
_TV_FPN = r"backbone\.fpn\.{}_blocks\.(\d+)\."
_TV_BOX, _TV_MASK = r"roi_heads\.box_predictor\.", r"roi_heads\.mask_predictor\."

TORCHVISION: tuple[NameRule, ...] = (
    NameRule(r"backbone\.body\.(conv1\.weight|bn1\." + NORM + r"|" + _TV_BLOCK + r")", r"backbone.\1"),
    NameRule(_TV_FPN.format("inner") + r"([01])\." + NORM, r"fpn.lateral.\1.\2.\3"),
    NameRule(_TV_FPN.format("inner") + END, r"fpn.lateral.\1.0.\2"),  # files from before 2022
    NameRule(_TV_FPN.format("layer") + r"([01])\." + NORM, r"fpn.output.\1.\2.\3"),
    NameRule(_TV_FPN.format("layer") + END, r"fpn.output.\1.0.\2"),  # files from before 2022
    NameRule(r"rpn\.head\.conv\.(\d+)\.0\." + END, r"rpn.conv.\1.0.\2"),
    NameRule(r"rpn\.head\.conv\." + END, r"rpn.conv.0.0.\1"),  # files from before 2022
    NameRule(r"rpn\.head\.cls_logits\." + END, r"rpn.logits.\1"),
    NameRule(r"rpn\.head\.bbox_pred\." + END, r"rpn.deltas.\1"),
    NameRule(r"roi_heads\.box_head\.fc6\." + END, r"box_head.fc1.\1"),
    NameRule(r"roi_heads\.box_head\.fc7\." + END, r"box_head.fc2.\1"),
    NameRule(r"roi_heads\.box_head\.([0-3])\.([01])\." + NORM, r"box_head.conv.\1.\2.\3"),
    NameRule(r"roi_heads\.box_head\.5\." + END, r"box_head.fc1.\1"),  # after 4 convolutions and the flattening
    NameRule(_TV_BOX + r"cls_score\." + END, r"box_predictor.classes.\1", _background_last),
    NameRule(_TV_BOX + r"bbox_pred\." + END, r"box_predictor.deltas.\1", _without_background_box),
    NameRule(r"roi_heads\.mask_head\.(\d+)\.([01])\." + NORM, r"mask_head.conv.\1.\2.\3"),
    NameRule(r"roi_heads\.(mask_head\.mask_fcn)(\d+)()\." + END, _counted_from_1),  # files from before 2022
    NameRule(_TV_MASK + r"conv5_mask\." + END, r"mask_head.deconv.\1"),
    NameRule(_TV_MASK + r"mask_fcn_logits\." + END, r"mask_head.logits.\1", _without_background),
    NameRule(r"roi_heads\.keypoint_head\.(\d+)\." + END, _layers_and_relus),
    NameRule(r"roi_heads\.keypoint_predictor\.kps_score_lowres\." + END, r"keypoint_head.deconv.\1"),
)


def from_torchvision(state: Mapping[str, Tensor]) -> Converted:
    """Weights of torchvision's detection models, with the current names or those of files published before 2022."""
    return apply(TORCHVISION, state, "torchvision")


def from_detectron2(state: Mapping[str, Tensor]) -> Converted:
    """Weights of detectron2's R-CNNs, FPN and C4. Very old files without norm statistics get mean 0, variance 1."""
    out = apply(DETECTRON2, state, "detectron2")
    if not any(name.endswith(".running_var") for name in out.state):
        norms = [n for n in out.state if re.fullmatch(r"(backbone|res5)\..*(bn\d|downsample\.1)\.weight", n)]
        for name in norms:
            weight, stem = out.state[name], name.removesuffix("weight")
            out.state[stem + "running_mean"] = torch.zeros_like(weight)
            out.state[stem + "running_var"] = torch.ones_like(weight)
    return out


NAMES = (
    NamingScheme("torchvision", r"backbone\.body\.|rpn\.head\.|roi_heads\.mask_predictor\.", from_torchvision),
    NamingScheme(
        "detectron2",
        r"backbone\.bottom_up\.|proposal_generator\.|backbone\.(stem|res[2-5])\.|roi_heads\.res5\.",
        from_detectron2,
    ),
)

CLASS_ROWS: RowTable = {
    "box_predictor.classes.": ClassRows(1, 1, counts=True),
    "box_predictor.deltas.": ClassRows(4),
    "mask_head.logits.": ClassRows(1),
}
