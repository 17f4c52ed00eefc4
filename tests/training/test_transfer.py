"""Weights of other classes: what is kept is kept exactly, and nothing begins anew without being named."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.weights.test_keymaps_yolact import published_names_of_mobilenet
from torch import Tensor

from maskwright.errors import ConfigError, WeightsError
from maskwright.models import rcnn, yolact, zoo
from maskwright.models.rcnn import RCNN
from maskwright.predictor.load import load
from maskwright.training.network import NetworkSettings, build, find_start, fitted
from maskwright.types import Classes
from maskwright.weights.files import read, save_checkpoint
from maskwright.weights.transfer import Transfer, same_names
from maskwright.weights.transfer import transfer as transfer_by

transfer = partial(transfer_by, table=rcnn.CLASS_ROWS)

BY_CLASS = {
    "box_predictor.classes.weight",
    "box_predictor.classes.bias",
    "box_predictor.deltas.weight",
    "box_predictor.deltas.bias",
    "mask_head.logits.weight",
    "mask_head.logits.bias",
}


def tiny(classes: int, seed: int, style: str = "compact", **changes: Any) -> RCNN:
    """A model whose every value tells it apart: norms and biases are drawn too."""
    torch.manual_seed(seed)
    model = RCNN(replace(rcnn.tiny(style, classes), **changes))
    with torch.no_grad():
        for value in model.state_dict().values():
            if value.is_floating_point():
                value.add_(torch.rand_like(value) * 0.1)
    return model


def values(model: torch.nn.Module) -> dict[str, Tensor]:
    return {n: t.clone() for n, t in model.state_dict().items()}


def moved(own: list[str], theirs: list[str] | None, **changes: Any) -> tuple[dict[str, Tensor], ...]:
    """The values of the model before and after, those of the weights, and what is said of it."""
    model, other = tiny(len(own), 1), tiny(len(theirs or own), 2, **changes)
    before, state = values(model), values(other)
    done = transfer(model, state, "old.safetensors", Classes(own), None if theirs is None else Classes(theirs))
    return before, values(model), state, done  # type: ignore[return-value]


def test_equal_classes_in_the_same_order_keep_everything() -> None:
    _, after, state, done = moved(["cat", "dog"], ["cat", "dog"])
    assert all(torch.equal(after[n], state[n]) for n in state)
    assert isinstance(done, Transfer)
    assert done.whole
    assert done.report() == f"weights: {len(done.kept)} tensors kept of old.safetensors"


def test_rows_follow_the_names_of_the_classes() -> None:
    before, after, state, done = moved(["bird", "dog", "cat"], ["cat", "cow", "dog", "fish"])
    assert set(done.by_row) == BY_CLASS
    assert done.classes == ("dog", "cat")
    for name in ("box_predictor.classes.weight", "box_predictor.classes.bias"):
        expected = torch.stack(
            [before[name][0], state[name][2], state[name][0], state[name][4]]
        )  # the last: background
        assert torch.equal(after[name], expected)
    for name in ("box_predictor.deltas.weight", "box_predictor.deltas.bias"):
        old, new = before[name].unflatten(0, (3, 4)), state[name].unflatten(0, (4, 4))
        assert torch.equal(after[name].unflatten(0, (3, 4)), torch.stack([old[0], new[2], new[0]]))
    for name in ("mask_head.logits.weight", "mask_head.logits.bias"):
        assert torch.equal(after[name], torch.stack([before[name][0], state[name][2], state[name][0]]))
    rest = [n for n in after if n not in BY_CLASS]
    assert all(torch.equal(after[n], state[n]) for n in rest)
    assert (
        "kept for 2 of 3 classes ('dog', 'cat'), the other rows start from random values: box_predictor.classes.weight"
        in (done.report())
    )


@pytest.mark.parametrize("count", [2, 3])
def test_without_a_common_class_the_heads_begin_anew_whole(count: int) -> None:
    before, after, state, done = moved(["leaf", "stem"], ["cat", "cow", "dog"][:count])
    assert set(done.began) == BY_CLASS
    assert all(torch.equal(after[n], before[n]) for n in BY_CLASS)
    assert all(torch.equal(after[n], state[n]) for n in after if n not in BY_CLASS)
    assert "start from random values, 6:" in done.report()


def test_weights_that_do_not_name_their_classes() -> None:
    _, after, state, done = moved(["a", "b"], None)
    assert done.in_order
    assert all(torch.equal(after[n], state[n]) for n in after)
    assert "does not name its 2 classes" in done.report()
    model, other = tiny(2, 1), tiny(3, 2)
    done = transfer(model, values(other), "x.pth", Classes(["a", "b"]), None)
    assert set(done.began) == BY_CLASS
    assert not done.in_order


def test_a_name_that_occurs_twice_is_not_matched() -> None:
    assert same_names(Classes(["a", "b", "b"]), Classes(["b", "a", "c"])) == [(0, 1)]
    assert same_names(Classes(["a", "b"]), Classes(["a", "a", "b"])) == [(1, 2)]
    assert same_names(Classes(["a", "a"]), Classes(["a", "a"])) == [(0, 0), (1, 1)]


def test_parts_that_the_file_lacks_or_has_in_another_shape_are_named() -> None:
    boxes_only, wide = tiny(2, 2, masks=False), tiny(2, 3, channels=24)
    names = Classes(["a", "b"])
    model = tiny(2, 1)
    before = values(model)
    done = transfer(model, values(boxes_only), "f.pth", names, names)
    masks = {n for n in before if n.startswith("mask_head.") and "tracked" not in n}
    assert set(done.began) == masks
    assert all(torch.equal(values(model)[n], before[n]) for n in masks)
    done = transfer(tiny(2, 1), values(wide), "w.pth", names, names)
    assert {n.partition(".")[0] for n in done.began} >= {"fpn", "rpn", "box_head"}
    assert all(n.startswith(("backbone.", "box_", "mask_", "rpn.", "fpn.")) for n in done.kept)
    done = transfer(tiny(2, 1, masks=False), values(tiny(2, 2)), "m.pth", names, names)
    assert set(done.unused) == masks
    assert f"not used, {len(masks)}: mask_head" in done.report()


def test_another_backbone_is_refused_and_nothing_changes() -> None:
    model = tiny(2, 1)
    before = values(model)
    other = RCNN(replace(rcnn.tiny("compact", 2), backbone="resnet18"))
    with pytest.raises(WeightsError, match=r"old\.pth belongs to another network: \d+ of the backbone's \d+ tensors"):
        transfer(model, values(other), "old.pth", Classes(["a", "b"]), None)
    assert all(torch.equal(values(model)[n], before[n]) for n in before)


def test_values_that_are_not_finite_are_refused_where_they_would_be_used() -> None:
    model, state = tiny(2, 1), values(tiny(3, 2))
    before = values(model)
    state["mask_head.logits.bias"][0] = torch.nan  # begins anew, so it does not matter
    transfer(model, state, "x.pth", Classes(["a", "b"]), None)
    state["fpn.lateral.0.0.weight"][0] = torch.inf
    model = tiny(2, 1)
    with pytest.raises(WeightsError, match=r"not finite, in fpn\.lateral\.0\.0\.weight"):
        transfer(model, state, "x.pth", Classes(["a", "b"]), None)
    assert all(torch.equal(values(model)[n], before[n]) for n in before)


# ---- from files and names -------------------------------------------------------------------------------------------


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    """A checkpoint of ours with the classes cat and dog, and anchors of its own."""
    model = tiny(2, 5)
    model = RCNN(replace(model.config, rpn=replace(model.config.rpn, sizes=((5.0,), (9.0,), (17.0,), (33.0,)))))
    header = zoo.describe(model.config, Classes(["cat", "dog"], [7, 3]), "mask_rcnn_small")
    return save_checkpoint(tmp_path / "old run.safetensors", model.state_dict(), header)


def test_our_checkpoint_brings_its_own_network(ours: Path) -> None:
    config = NetworkSettings(weights=str(ours))
    start = find_start(config)
    assert start.architecture == "mask_rcnn_small"
    assert start.classes == Classes(["cat", "dog"], [7, 3])
    model, done = build(config, Classes(["dog", "leaf"]), start)
    assert model.config.rpn.sizes == ((5.0,), (9.0,), (17.0,), (33.0,))
    assert model.config.num_classes == 2
    state = read(ours).tensors
    assert done is not None
    assert done.classes == ("dog",)
    assert torch.equal(model.state_dict()["mask_head.logits.bias"][0], state["mask_head.logits.bias"][1])
    again, _ = build(config, Classes(["dog", "leaf"]), start)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))


def test_a_named_architecture_overrides_the_files(ours: Path) -> None:
    config = NetworkSettings(weights=str(ours), model="mask_rcnn_fpn.resnet18")
    start = find_start(config)
    assert start.architecture == "mask_rcnn_fpn.resnet18"
    with pytest.raises(WeightsError, match=r"old run\.safetensors belongs to another network"):
        build(config, Classes(["dog"]), start)


def test_the_model_in_the_package_can_be_trained_on(tmp_path: Path) -> None:
    for config in (NetworkSettings(model="nuclei"), NetworkSettings(weights="nuclei")):
        start = find_start(config)
        assert start.architecture == "mask_rcnn_small"
        assert start.classes == Classes(["nucleus"])
        model, done = build(config, Classes(["cell", "nucleus"]), start)
        assert model.config.num_classes == 2
        assert done is not None
        assert done.classes == ("nucleus",)


def test_one_class_is_kept_for_one_class_of_another_name() -> None:
    config = NetworkSettings(weights="nuclei")
    start = find_start(config)
    model, done = build(config, Classes(["mushroom"]), start)
    assert done is not None
    assert done.whole
    assert done.finds
    assert "the head of 'nucleus' is kept for 'mushroom'" in done.report()
    state = values(model)
    assert start.weights is not None
    assert all(torch.equal(state[name], value.to(state[name].dtype)) for name, value in start.weights.state.items())
    _, moved = build(config, Classes(["mushroom", "stone"]), start)  # which of the two it is, is not known
    assert moved is not None
    assert not moved.finds


def test_classes_are_renamed_as_asked(ours: Path) -> None:
    own = Classes(["hound", "leaf"])
    config = NetworkSettings(weights=str(ours), rename=("dog=hound",))
    start = find_start(config)
    _, plain = build(replace(config, rename=()), own, start)
    _, done = build(config, own, start)
    assert plain is not None
    assert done is not None
    assert (plain.classes, plain.finds) == ((), False)
    assert (done.classes, done.finds) == (("hound",), True)
    assert done.renamed == (("dog", "hound"),)
    for text, match in (
        ("dog", "renamed by OLD=NEW"),
        ("dgo=hound", r"has no class 'dgo'\. Did you mean 'dog'"),
        ("dog=hund", r"The data has no class 'hund'\. Did you mean 'hound'"),
    ):
        with pytest.raises(ConfigError, match=match):
            build(replace(config, rename=(text,)), own, start)
    with pytest.raises(ConfigError, match="weights, which are not given"):
        build(NetworkSettings(rename=("a=b",)), own, find_start(NetworkSettings()))


def test_weights_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no model 'mask_rcnn_smal'"):
        find_start(NetworkSettings(weights="mask_rcnn_smal"))
    with pytest.raises(WeightsError, match="no weights file at"):
        find_start(NetworkSettings(weights=str(tmp_path / "gone.pth")))
    torch.save(tiny(2, 1).state_dict(), tmp_path / "anonymous.pth")
    with pytest.raises(ConfigError, match=r"anonymous\.pth .* does not say of which network.*Name its model"):
        find_start(NetworkSettings(weights=str(tmp_path / "anonymous.pth")))
    config = NetworkSettings(model="mask_rcnn_r50_fpn.torchvision")
    start = find_start(config)
    with pytest.raises(ConfigError, match=r"frozen norms.*weights: mask_rcnn_r50_fpn"):
        build(config, Classes(["a"]), start)
    with pytest.raises(WeightsError, match="has no weights that can be fetched"):
        find_start(NetworkSettings(weights="mask_rcnn_small"))


def test_settings_are_fitted_into_the_config() -> None:
    given = {"size": 96, "max_size": 500, "shrink": True, "enlarge": 3.0, "anchors": (6, 12, 24, 48)}
    config = NetworkSettings(**given, score_threshold=0.02, max_instances=900)
    new = fitted(rcnn.compact(5), config)
    assert new.num_classes == 5
    assert (new.spec.size, new.spec.max_size, new.spec.shrink, new.spec.enlarge) == (96, 500, True, 3.0)
    assert new.rpn.sizes == ((6.0,), (12.0,), (24.0,), (48.0,))
    assert (new.output.score_threshold, new.output.max_instances) == (0.02, 900)
    assert (new.roi.score, new.roi.keep) == (0.02, 900)
    assert new.rpn.after >= 1800
    assert fitted(rcnn.compact(3), NetworkSettings()) == rcnn.compact(3)
    c4 = fitted(rcnn.detectron2_c4(2), NetworkSettings(anchors=(8, 16, 32, 64, 128)))
    assert c4.rpn.sizes == ((8.0, 16.0, 32.0, 64.0, 128.0),)
    with pytest.raises(ConfigError, match="one entry for each of the 4 levels"):
        RCNN(fitted(rcnn.tiny("compact"), NetworkSettings(anchors=(8, 16))))


def test_the_same_shapes_with_other_conventions_are_refused(tmp_path: Path) -> None:
    """`yolact.NAME` has true ratios and another input: a published file gave other objects there without a word."""
    path, config = tmp_path / "yolact_edge_mobilenetv2_54_800000.pth", yolact.published(80, "mobilenetv2")
    torch.save({name: torch.rand(empty.shape) for name, empty in published_names_of_mobilenet(config).items()}, path)
    own = r"is yolact's, this model follows maskwright's own conventions\. The file fits: yolact_edge_mnv2\."
    with pytest.raises(WeightsError, match=own):
        load("yolact.mobilenetv2", weights=path)
    with pytest.raises(WeightsError, match=own):
        find_start(NetworkSettings(model="yolact.mobilenetv2", weights=str(path)))
    assert load("yolact_edge_mnv2", weights=path).model.config == config
