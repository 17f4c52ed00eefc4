"""Every name of a published YOLACT file has exactly one place in a model of ours, and every value arrives there."""

import json
import re
from pathlib import Path

import pytest
import torch
from tests.golden.yolact_recorded import CONFIGS
from torch import Tensor

from maskwright.errors import WeightsError
from maskwright.models import rcnn, yolact, yolact_edge, zoo
from maskwright.models.yolact import Yolact, YolactConfig
from maskwright.models.yolact.keys import from_yolact, rules
from maskwright.models.yolact_edge import YolactEdge
from maskwright.weights.keyrules import Converted, naming
from maskwright.weights.keyrules import convert as convert_known
from maskwright.weights.load import Known, load_file, load_into, shapes_of

State = dict[str, Tensor]
KNOWN = zoo.known()


def convert(state: State) -> Converted:
    """Weights of any publisher under our names."""
    return convert_known(state, KNOWN.names)


def spec(shared: Path, folder: str) -> State:
    """Names and shapes of a published file, without values."""
    rows = json.loads((shared / "golden" / "yolact" / folder / "spec.json").read_text())
    return {key: torch.empty(shape, dtype=getattr(torch, kind), device="meta") for key, shape, kind in rows}


def model_of(config: YolactConfig) -> dict[str, torch.Size]:
    """Names and shapes of ours; frozen norms count no batches, files do."""
    return dict(shapes_of(lambda: Yolact(config)))


def without_counters(state: State) -> dict[str, torch.Size]:
    return {n: t.shape for n, t in state.items() if not n.endswith("num_batches_tracked")}


@pytest.mark.parametrize("folder", CONFIGS)
def test_every_published_name_has_its_place(shared: Path, folder: str) -> None:
    state = spec(shared, folder)
    out = convert(state)
    assert out.publisher == "yolact"
    assert out.unknown == ()
    assert without_counters(out.state) == model_of(CONFIGS[folder]())
    unused = [n for n in state if re.match(r"backbone\.layers\.[78]\.", n)] if "mobilenet" in folder else []
    assert list(out.ignored) == unused


def test_no_name_is_matched_by_two_rules(shared: Path) -> None:
    for folder in CONFIGS:
        state = spec(shared, folder)
        for name in state:
            hits = [r.pattern for r in rules(state) if re.fullmatch(r.pattern, name)]
            two = name.startswith("fpn") and "downsample" in name  # the second is for those after the last
            assert len(hits) == 1 + two, (name, hits)


@pytest.mark.parametrize(
    "config",
    [
        yolact.published(backbone="resnet101"),
        yolact.published(backbone="resnet101", size=700),
        yolact.plus(backbone="resnet101"),
        yolact.published(3, "darknet53"),
        yolact.plus(1),
    ],
    ids=["base", "im700", "plus_base", "3 classes", "plus, 1 class"],
)
def test_models_that_were_not_recorded_fit_by_their_own_names(config: YolactConfig) -> None:
    state = published_names(config)
    out = convert(state)
    assert (out.publisher, out.unknown, out.ignored) == ("yolact", (), ())
    assert {n: t.shape for n, t in out.state.items()} == model_of(config)


def published_names(config: YolactConfig) -> State:
    """The names that a file of this model has, by plain replacement, a second way beside the rules."""
    out = {}
    for name, shape in model_of(config).items():
        n = re.sub(r"backbone\.layer(\d)", lambda m: f"backbone.layers.{int(m[1]) - 1}", name)
        n = n.replace("backbone.stem.", "backbone._preconv.").replace("backbone.stages.", "backbone.layers.")
        n = n.replace(".sampling.", ".conv_offset_mask.")
        n = re.sub(r"fpn\.lateral\.(\d)\.0", lambda m: f"fpn.lat_layers.{2 - int(m[1])}", n)
        n = re.sub(r"fpn\.output\.(\d)\.0", lambda m: f"fpn.pred_layers.{2 - int(m[1])}", n)
        n = re.sub(r"fpn\.extra\.(\d)\.0", r"fpn.downsample_layers.\1", n)
        n = re.sub(r"protonet\.before\.(\d)\.0", lambda m: f"proto_net.{2 * int(m[1])}", n)
        n = n.replace("protonet.after.0", "proto_net.8").replace("protonet.prototypes.0", "proto_net.10")
        n = n.replace("head.conv.0.conv", "prediction_layers.0.upfeature.0")
        for own, theirs in (("deltas", "bbox"), ("logits", "conf"), ("coefficients", "mask")):
            n = n.replace(f"head.{own}", f"prediction_layers.0.{theirs}_layer")
        n = re.sub(r"^semantic", "semantic_seg_conv", n)
        n = re.sub(r"scorer\.conv\.(\d)\.0", lambda m: f"maskiou_net.maskiou_net.{2 * int(m[1])}", n)
        out[n] = torch.empty(shape, device="meta")
    return out


def test_deformable_blocks_of_resnet101_are_every_third() -> None:
    names = [n for n in model_of(yolact.plus(backbone="resnet101")) if n.endswith("sampling.weight")]
    blocks = [tuple(int(v) for v in re.findall(r"\d+", n)[:2]) for n in names]
    assert blocks == [(2, 0), (2, 3), *((3, b) for b in range(0, 23, 3)), (4, 0)]


def small(classes: int = 2, priors: int = 3) -> State:
    """The least of a file of so many classes, its class rows numbered."""
    rows = torch.arange(priors * (classes + 1.0))
    return {
        "prediction_layers.0.bbox_layer.bias": torch.zeros(priors * 4),
        "prediction_layers.0.conf_layer.bias": rows,
        "prediction_layers.0.conf_layer.weight": rows.view(-1, 1, 1, 1).expand(-1, 2, 3, 3),
        "semantic_seg_conv.bias": torch.arange(classes + 0.0),
    }


def test_the_background_of_each_prior_is_moved_behind_its_classes() -> None:
    out = convert(small()).state
    assert out["head.logits.bias"].tolist() == [1, 2, 0, 4, 5, 3, 7, 8, 6]
    assert out["head.logits.weight"][:, 1, 2, 0].tolist() == [1, 2, 0, 4, 5, 3, 7, 8, 6]
    assert out["semantic.bias"].tolist() == [0, 1]
    assert convert(small(1, 9)).state["head.logits.bias"].tolist() == [v for i in range(9) for v in (2 * i + 1, 2 * i)]


def test_rows_that_fit_no_number_of_classes_are_left_to_the_loader() -> None:
    state = small() | {"prediction_layers.0.conf_layer.bias": torch.arange(10.0)}
    assert convert(state).state["head.logits.bias"].tolist() == list(range(10))
    state["prediction_layers.0.bbox_layer.bias"] = torch.zeros(0)
    assert convert(state).state["head.logits.bias"].tolist() == [*range(1, 10), 0]


@pytest.mark.parametrize("prefix", ["module.", "module.net.", "net."])
def test_prefixes_of_multi_gpu_wrappers_are_removed(prefix: str) -> None:
    wrapped = convert({prefix + name: value for name, value in small().items()})
    assert wrapped.publisher == "yolact"
    assert wrapped.unknown == ()
    assert all(torch.equal(wrapped.state[n], t) for n, t in convert(small()).state.items())


def test_duplicate_and_unused_tensors_of_old_files_are_ignored() -> None:
    twice = {
        "backbone.layer1.0.conv1.weight": torch.ones(1),
        "backbone.layers.0.0.conv1.weight": torch.zeros(1),
        "fpn.downsample_layers.1.bias": torch.zeros(1),
        "fpn.downsample_layers.2.bias": torch.ones(1),
        "fpn.downsample_layers.10.weight": torch.ones(1),
    }
    out = convert(small() | twice)
    assert out.ignored == tuple(n for n, t in twice.items() if t == 1)
    assert not out.state["backbone.layer1.0.conv1.weight"]
    assert "fpn.extra.1.0.bias" in out.state
    assert out.unknown == ()


def test_both_names_of_the_pyramid_give_the_same(shared: Path) -> None:
    one, two = (from_yolact(spec(shared, n)).state for n in ("yolact_resnet50", "yolact_edge_resnet50"))
    assert {n: t.shape for n, t in one.items()} == {n: t.shape for n, t in two.items()}


def test_the_levels_of_the_pyramid_are_reversed() -> None:
    state = small() | {f"fpn.{kind}_layers.{i}.bias": torch.tensor([i]) for i in range(3) for kind in ("lat", "pred")}
    out = convert(state).state
    for kind in ("lateral", "output"):
        assert [out[f"fpn.{kind}.{i}.0.bias"].item() for i in range(3)] == [2, 1, 0]


def test_parts_of_video_models_get_our_names(shared: Path) -> None:
    out = convert(spec(shared, "yolact_edge_vid_resnet50"))
    assert out.publisher == "yolact"
    assert out.unknown == ()
    assert out.ignored == tuple(f"flow_net.pred1.{k}.{v}" for k in ("scale", "bias") for v in ("weight", "bias"))
    assert without_counters(out.state) == shapes_of(lambda: YolactEdge(yolact_edge.published()))


def test_video_files_are_no_image_models(shared: Path) -> None:
    """What carries features is named, and the model that the file is of."""
    out = convert(spec(shared, "yolact_edge_vid_resnet50"))
    with pytest.raises(WeightsError, match=r"it has besides .*flow.*The file fits: yolact_edge_vid_r50\."):
        load_into(Yolact(yolact.published(40)), out, "video.pth", KNOWN)
    images = {n: t for n, t in out.state.items() if not n.startswith(("flow.", "refine."))}
    with pytest.raises(WeightsError, match=r"it lacks flow\."):
        load_into(YolactEdge(yolact_edge.published()), images, "image.pth", KNOWN)


def test_prototype_layers_are_recognised_by_their_order() -> None:
    """Two before the enlargement, as somebody's own config may have it."""
    state = small() | {f"proto_net.{i}.weight": torch.tensor([i]) for i in (0, 2, 6, 8)}
    out = convert(state).state
    names = ("before.0.0", "before.1.0", "after.0", "prototypes.0")
    assert [out[f"protonet.{n}.weight"].item() for n in names] == [0, 2, 6, 8]


def test_other_publishers_names_are_not_recognised_as_yolact(shared: Path) -> None:
    for path in (shared / "golden" / "rcnn").glob("*/spec.json"):
        found = naming({row[0]: torch.empty(0) for row in json.loads(path.read_text())}, KNOWN.names)
        assert found is None or found.publisher != "yolact"
    assert naming(dict.fromkeys(model_of(yolact.plus(1)), torch.empty(0)), KNOWN.names) is None


CANDIDATES = {
    name: (lambda config=config: shapes_of(lambda: Yolact(config)))
    for name, config in {
        "yolact_r50": yolact.published(),
        "yolact_r101": yolact.published(backbone="resnet101"),
        "yolact_plus_r50": yolact.plus(),
        "yolact_darknet53": yolact.published(backbone="darknet53"),
    }.items()
} | {"mask.detectron2": lambda: shapes_of(lambda: rcnn.RCNN(rcnn.detectron2_fpn()))}


@pytest.mark.parametrize(
    ("config", "hint"),
    [
        (yolact.published(), r"The file fits: yolact_r50\.$"),
        (
            yolact.published(7),
            r"Except for its number of classes \(7\) the file fits: yolact_r50\. Give the names of its 7",
        ),
        (yolact.plus(1), r"its number of classes \(1\) the file fits: yolact_plus_r50\."),
        (yolact.published(3, "darknet53"), r"its number of classes \(3\) the file fits: yolact_darknet53\."),
        (YolactConfig(80, extra=1, sizes=((24.0,),) * 4), r"Nearest is yolact_r50: 9\d% of all names and shapes agree"),
    ],
)
def test_the_error_says_which_model_a_file_fits(config: YolactConfig, hint: str) -> None:
    with torch.device("meta"):
        model = Yolact(yolact.published(5, "mobilenetv2"))
    with pytest.raises(WeightsError, match=hint):
        load_into(model, convert(published_names(config)), "mine.pth", Known(CANDIDATES, KNOWN.names, KNOWN.class_rows))


def test_a_users_file_of_three_classes_is_read_strictly(tmp_path: Path) -> None:
    config = yolact.published(3, "mobilenetv2")
    values = {}
    for name, empty in published_names_of_mobilenet(config).items():
        values[f"module.{name}"] = torch.rand(empty.shape) * 0.1
    path = tmp_path / "leaf 叶_12_3000.pth"
    torch.save(values, path)
    model = Yolact(config)
    file = load_file(model, path, KNOWN, publisher="yolact")
    assert file.header is None
    first = values["module.prediction_layers.0.conf_layer.bias"].view(3, 4)
    assert torch.equal(model.head.logits.bias.view(3, 4), first[:, [1, 2, 3, 0]])
    last = values["module.backbone.layers.6.2.conv.3.weight"]
    assert torch.equal(model.backbone.features[16].conv[3].weight, last)
    with pytest.raises(WeightsError, match=r"叶_12_3000\.pth is yolact's, this model follows detectron2's conventions"):
        load_file(model, path, KNOWN, publisher="detectron2")
    del values["module.fpn.lat_layers.2.bias"]
    torch.save(values, path)
    with pytest.raises(WeightsError, match=r"it lacks fpn\.lateral\.0\.0\.bias"):
        load_file(model, path, KNOWN, publisher="yolact")


def published_names_of_mobilenet(config: YolactConfig) -> State:
    starts = (0, 1, 2, 4, 7, 11, 14)
    out = {}
    for name, value in published_names(config).items():
        if match := re.fullmatch(r"backbone\.features\.(\d+)\.(.*)", name):
            number = int(match[1])
            stage = max(i for i, start in enumerate(starts) if start <= number)
            block = f".{number - starts[stage]}" if stage else ""
            name = f"backbone.layers.{stage}{block}.{match[2]}"
        out[name] = value
    return out
