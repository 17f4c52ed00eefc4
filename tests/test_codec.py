"""Dataclasses to and from plain values: there and back, and errors that name the field."""

import json
from dataclasses import dataclass, field, replace
from typing import Literal

import pytest

from maskwright.codec import UNSET, FieldError, decode, encode, filled, open_field, unset
from maskwright.errors import ConfigError
from maskwright.models import rcnn
from maskwright.models.rcnn import RCNNConfig
from maskwright.models.zoo import ZOO
from maskwright.types import InputSpec

STYLES = ["detectron2", "torchvision_v1", "torchvision_v2", "c4", "compact"]
CONFIGS = {name: entry.config for name, entry in ZOO.items() if entry.config} | {s: rcnn.tiny(s) for s in STYLES}


@pytest.mark.parametrize("name", CONFIGS)
def test_there_and_back(name: str) -> None:
    config = CONFIGS[name]
    assert decode(type(config), encode(config)) == config
    again = decode(type(config), json.loads(json.dumps(encode(config))))
    assert again == config
    assert hash(again) == hash(config)


def test_a_part_may_be_left_out() -> None:
    assert decode(RCNNConfig, {}) == RCNNConfig()
    changed = decode(RCNNConfig, {"num_classes": 2, "rpn": {"nms": 0.5}, "spec": {"size": 320, "max_size": None}})
    assert changed == replace(
        RCNNConfig(num_classes=2), rpn=replace(RCNNConfig().rpn, nms=0.5), spec=InputSpec(size=320, max_size=None)
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_clases": 3}, "RCNNConfig has no field 'num_clases'. Did you mean 'num_classes'"),
        ({"rpn": {"ratio": [1.0]}}, "RPNConfig has no field 'ratio'. Did you mean 'ratios'"),
        ({"spec": {"colour": "RGB"}}, "InputSpec has no field 'colour'"),
        ({"neck": "fnp"}, "neck is 'fpn', 'c4' or 'crops'.*'fnp'"),
        ({"norm": "frosen"}, "norm is 'frozen' or 'live', got 'frosen'"),
        ({"num_classes": 0}, "num_classes is at least 1"),
        ({"spec": {"resize": "bicubic"}}, "resize is 'pillow' or 'float'"),
        ({"rpn": {"rank_by": "score"}}, "rank_by is 'logit' or 'probability'.*'score'"),
        ({"rpn": {"mean_over": "batch"}}, "mean_over is 'budget' or 'sampled'.*'batch'"),
        ({"rpn": 3}, "rpn is a table with the fields of RPNConfig, got 3"),
    ],
)
def test_what_is_wrong_is_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        decode(RCNNConfig, values)


def test_a_field_without_default_is_asked_for() -> None:
    @dataclass(frozen=True)
    class Needs:
        width: int
        depth: int
        side: tuple[int, ...] = field(default=(1,))

    with pytest.raises(ConfigError, match="Needs needs depth"):
        decode(Needs, {"width": 1})
    assert decode(Needs, {"width": 1, "depth": 2, "side": [3, 4]}) == Needs(1, 2, (3, 4))


def test_tiny_names_its_styles() -> None:
    with pytest.raises(ConfigError, match=r"no tiny 'compat'\. Did you mean 'compact'"):
        rcnn.tiny("compat")


@dataclass(frozen=True)
class Inner:
    count: int = open_field(3)
    share: float | None = open_field(None)


@dataclass(frozen=True)
class Outer:
    inner: Inner = field(default_factory=Inner)
    kind: Literal["a", "b"] = "a"
    sides: tuple[float, float] = (1.0, 2.0)
    on: bool = True
    off: bool | None = None


@pytest.mark.parametrize(
    ("values", "path", "message"),
    [
        ({"inner": {"count": 1.5}}, ("inner", "count"), "count is a whole number, got 1.5"),
        ({"inner": {"count": True}}, ("inner", "count"), "count is a whole number, got True"),
        ({"inner": {"cuont": 1}}, ("inner", "cuont"), "Did you mean 'count'"),
        ({"inner": {"share": "1"}}, ("inner", "share"), "share is a number, or false for none, got '1'"),
        ({"kind": "c"}, ("kind",), "kind is 'a' or 'b', got 'c'"),
        ({"sides": [1]}, ("sides",), r"sides is a list of 2 numbers, got \[1\]"),
        ({"sides": 1}, ("sides",), "sides is a list of 2 numbers"),
        ({"on": 1}, ("on",), "on is true or false, got 1"),
        ({"off": "no"}, ("off",), "off is true or false, got 'no'"),
    ],
)
def test_values_of_other_types_are_refused_with_their_path(
    values: dict[str, object], path: tuple[str, ...], message: str
) -> None:
    with pytest.raises(FieldError, match=message) as caught:
        decode(Outer, values, off=True)
    assert caught.value.path == path


@pytest.mark.parametrize("mean", ["abc", ("a", 1.0, 2.0), (1.0, 2.0, None), 5.0, (True, 1.0, 2.0)])
def test_values_of_other_types_are_refused_as_an_object_is_made(mean: object) -> None:
    with pytest.raises(FieldError, match=r"mean is a (list of 3 numbers|number), got"):
        InputSpec(mean=mean)  # type: ignore[arg-type]


def test_unset_fields_are_left_out_and_filled() -> None:
    one = Outer(Inner(share=0.5))
    assert unset(one.inner) == ("count",)
    assert encode(one)["inner"] == {"share": 0.5}
    assert decode(Outer, encode(one)) == one
    assert filled(one.inner) == Inner(3, 0.5)
    assert filled(Inner()) == Inner(3, None)
    assert repr(Inner().count) == repr(UNSET) == "UNSET"


def test_false_stands_for_none_only_where_asked() -> None:
    assert decode(Inner, {"share": False}, off=True).share is None
    assert decode(Outer, {"off": False}, off=True).off is False
    with pytest.raises(FieldError, match="share is a number, or None, got False"):
        decode(Inner, {"share": False})
    assert decode(Inner, {"share": 2}) == Inner(share=2.0)
