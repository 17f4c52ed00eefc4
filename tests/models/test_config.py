"""Configs from plain values: there and back, and errors that name the field."""

import json
from dataclasses import asdict, dataclass, field, replace

import pytest

from maskwright.errors import ConfigError
from maskwright.models import rcnn
from maskwright.models.config import from_dict
from maskwright.models.rcnn import RCNNConfig
from maskwright.models.zoo import ZOO
from maskwright.types import InputSpec

STYLES = ["detectron2", "torchvision_v1", "torchvision_v2", "c4", "compact"]
CONFIGS = {name: entry.config for name, entry in ZOO.items() if entry.config} | {s: rcnn.tiny(s) for s in STYLES}


@pytest.mark.parametrize("name", CONFIGS)
def test_there_and_back(name: str) -> None:
    config = CONFIGS[name]
    assert from_dict(type(config), asdict(config)) == config
    again = from_dict(type(config), json.loads(json.dumps(asdict(config))))
    assert again == config
    assert hash(again) == hash(config)


def test_a_part_may_be_left_out() -> None:
    assert from_dict(RCNNConfig, {}) == RCNNConfig()
    changed = from_dict(RCNNConfig, {"num_classes": 2, "rpn": {"nms": 0.5}, "spec": {"size": 320, "max_size": None}})
    assert changed == replace(
        RCNNConfig(num_classes=2), rpn=replace(RCNNConfig().rpn, nms=0.5), spec=InputSpec(size=320, max_size=None)
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_clases": 3}, "RCNNConfig has no field 'num_clases'. Did you mean 'num_classes'"),
        ({"rpn": {"ratio": [1.0]}}, "RPNConfig has no field 'ratio'. Did you mean 'ratios'"),
        ({"spec": {"colour": "RGB"}}, "InputSpec has no field 'colour'"),
        ({"neck": "fnp"}, "neck is 'fpn' or 'c4'.*'fnp'"),
        ({"norm": "frosen"}, "norm 'frozen' or 'live'.*'frosen'"),
        ({"num_classes": 0}, "num_classes at least 1"),
        ({"spec": {"resize": "bicubic"}}, "resize is 'pillow' or 'float'"),
        ({"rpn": {"rank_by": "score"}}, "rank_by is 'logit' or 'probability'.*'score'"),
        ({"rpn": {"mean_over": "batch"}}, "mean_over is 'budget' or 'sampled'.*'batch'"),
        ({"rpn": 3}, "RCNNConfig: 'rpn' holds the fields of RPNConfig, got 3"),
    ],
)
def test_what_is_wrong_is_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_dict(RCNNConfig, values)


def test_a_field_without_default_is_asked_for() -> None:
    @dataclass(frozen=True)
    class Needs:
        width: int
        depth: int
        side: tuple[int, ...] = field(default=(1,))

    with pytest.raises(ConfigError, match="Needs needs depth"):
        from_dict(Needs, {"width": 1})
    assert from_dict(Needs, {"width": 1, "depth": 2, "side": [3, 4]}) == Needs(1, 2, (3, 4))


def test_tiny_names_its_styles() -> None:
    with pytest.raises(ConfigError, match=r"no tiny 'compat'\. Did you mean 'compact'"):
        rcnn.tiny("compat")
