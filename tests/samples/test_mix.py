"""Copy-paste and mosaic: exact pixels, masks, boxes and landmarks, and nothing that depends on the order of calls."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.samples import marked
from tests.samples.marked import make_sample
from tests.samples.test_augment_landmarks import covers, movements, seeds, sizes

from maskwright.data import synthetic
from maskwright.data.formats import coco
from maskwright.errors import ConfigError, DataError
from maskwright.samples.augment import Augment, choose
from maskwright.samples.loader import Batches, SampleKey, Sampling, TrainingSamples
from maskwright.samples.mix import View, cut_out, paste, vary
from maskwright.samples.sample import Objects, Sample
from maskwright.types import Classes, InputSpec, Masks

AS_IT_IS = View(lambda size: size, fill=(0, 0, 0))


class Others:
    """Other images, one after the other; those with objects where that is asked for."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.samples, self.drawn = samples, 0

    def __call__(self, rng: np.random.Generator, *, filled: bool) -> Sample:
        usable = [s for s in self.samples if len(s.objects) or not filled]
        self.drawn += 1
        return usable[(self.drawn - 1) % len(usable)]


def same(one: Sample, two: Sample) -> None:
    np.testing.assert_array_equal(one.image, two.image)
    for name in ("boxes", "labels", "crowd", "keypoints"):
        np.testing.assert_array_equal(getattr(one.objects, name), getattr(two.objects, name))
    if one.objects.masks is not None:
        np.testing.assert_array_equal(one.objects.masks.dense(), two.objects.masks.dense())


# ---- both kinds -----------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 50), st.integers(1, 50), st.sampled_from([0, 1, 7])), min_size=1, max_size=4),
    movements,
    st.tuples(st.sampled_from([0.0, 1.0]), st.sampled_from([0.0, 1.0]), st.sampled_from([0.0, 1.0])),
    st.sampled_from(["drop", "ignore"]),
    seeds,
)
def test_boxes_are_tight_whatever_is_mixed(
    images: list[tuple[int, int, int]], config: Augment, kinds: tuple[float, ...], cut: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    samples = [make_sample(rng, (h, w), count) for h, w, count in images]
    samples.append(make_sample(rng, (9, 30), 3))  # at least one has objects
    config = replace(config, mosaic=kinds[0], copy_paste=kinds[1], cut=cut, min_share=0.2)
    config = replace(config, focus=kinds[2]) if config.crop else config
    out, again = (vary(samples[0], config, np.random.default_rng(seed), AS_IT_IS, Others(samples)) for _ in range(2))
    same(out, again)
    found, (height, width) = out.objects, out.size
    assert found.masks.size == out.size
    np.testing.assert_array_equal(found.boxes, found.masks.boxes())
    assert (found.boxes[:, 2:] - found.boxes[:, :2] >= 1).all()
    assert (found.boxes <= [width, height, width, height]).all()
    assert len(found.labels) == len(found.crowd) == len(found.boxes)
    if kinds[0]:
        assert out.size == (config.crop or samples[0].size)


@settings(max_examples=40, deadline=None)
@given(st.lists(sizes, min_size=4, max_size=4), movements, st.sampled_from([(1, 0), (0, 1), (1, 1)]), seeds)
def test_mixed_masks_cover_their_colours(
    all_sizes: list[tuple[int, int]], config: Augment, kinds: tuple[int, int], seed: int
) -> None:
    """Four images, and a fifth to paste from, with hues of their own."""
    rng = np.random.default_rng(seed)
    samples = [marked.disks(rng, size, 2, first=2 * k) for k, size in enumerate([*all_sizes, (60, 70)])]
    config = replace(config, mosaic=kinds[0], copy_paste=kinds[1])
    out = vary(samples[0], config, np.random.default_rng(seed), AS_IT_IS, Others(samples[1:]))
    covers(out.image, out.objects)


@settings(max_examples=25, deadline=None)
@given(st.lists(sizes, min_size=4, max_size=4), st.sampled_from([0.0, 30.0]), st.sampled_from([0.0, 1.0]), seeds)
def test_landmarks_lie_on_their_dots_in_a_mosaic(
    all_sizes: list[tuple[int, int]], rotate: float, rot90: float, seed: int
) -> None:
    """Without mirrors, so that every point keeps its place; the fourth image is empty."""
    rng = np.random.default_rng(seed)
    samples = [marked.dots(rng, size, first=4 * k) for k, size in enumerate(all_sizes)]
    for k, sample in enumerate(samples):
        sample.objects.labels[:] = [2 * k, 2 * k + 1]
    samples[3] = Sample(np.zeros_like(samples[3].image), samples[3].objects[:0])
    config = Augment(flip_horizontal=0.0, rotate=rotate, rot90=rot90, mosaic=1.0, crop=(110, 120), min_share=0.0)
    out = vary(samples[0], config, np.random.default_rng(seed), AS_IT_IS, Others(samples[1:]))
    assert set(out.objects.labels) == set(range(6))
    for label, points in zip(out.objects.labels, out.objects.keypoints, strict=True):
        for k, (x, y, visible) in enumerate(points[: 3 - 2 * (label % 2)]):
            number = 4 * (label // 2) + 3 * (label % 2) + k
            mass = marked.share_of(out.image, number).sum()  # of 25 pixels; the edge of a tile may cut the dot
            if visible == 0:
                assert mass < 17
            elif mass > 21:
                assert np.hypot(*(marked.find(out.image, number) - (x, y))) < 1.0
            else:
                assert mass > 1


def test_the_first_images_numbers_stay() -> None:
    config = Augment(flip_horizontal=0.5, rot90=0.5, rotate=9, scale=(0.5, 2), crop=(30, 30), hue=0.2, noise=5)
    rare = replace(config, mosaic=1e-12, copy_paste=1e-12)
    images = [make_sample(np.random.default_rng(k), (40, 50), 3) for k in range(3)]
    for seed in range(5):
        same(
            vary(images[0], rare, np.random.default_rng(seed), AS_IT_IS, Others(images)),
            vary(images[0], config, np.random.default_rng(seed), AS_IT_IS),
        )
        whole = replace(config, copy_paste=1.0)
        below = vary(images[0], config, np.random.default_rng(seed), AS_IT_IS)
        pasted = vary(images[0], whole, np.random.default_rng(seed), AS_IT_IS, Others(images))
        assert pasted.size == below.size


def test_other_images_are_asked_for_where_they_are_needed() -> None:
    sample = make_sample(np.random.default_rng(0), (20, 20), 1)
    for kind in ("mosaic", "copy_paste"):
        with pytest.raises(ConfigError, match="need other images"):
            vary(sample, Augment(**{kind: 0.1}), np.random.default_rng(0), AS_IT_IS)
    others = Others([sample])
    vary(sample, Augment(mosaic=1.0), np.random.default_rng(0), AS_IT_IS, others)
    assert others.drawn == 3
    vary(sample, Augment(), np.random.default_rng(0), AS_IT_IS, others)
    assert others.drawn == 3


# ---- mosaic ---------------------------------------------------------------------------------------------------------


def test_a_mosaic_shows_four_images() -> None:
    flat = [
        Sample(np.full((50, 50, 3), 40 * (k + 1), np.uint8), make_sample(np.random.default_rng(0), (50, 50), 0).objects)
        for k in range(4)
    ]
    still = Augment(flip_horizontal=0, mosaic=1.0, crop=(60, 80))
    middles = set()
    for seed in range(20):
        out = vary(flat[0], still, np.random.default_rng(seed), AS_IT_IS, Others(flat[1:]))
        assert out.image.shape == (60, 80, 3)
        areas = [int((out.image == 40 * (k + 1)).all(axis=2).sum()) for k in range(4)]
        assert min(areas) >= 0.3 * 60 * 0.3 * 80 - 80
        top, left = np.argmax(out.image[:, 40, 0] != out.image[0, 40, 0]), np.argmax(out.image[30, :, 0] > 0)
        middles.add((int(top), int(left)))
    assert len(middles) > 5


def test_a_small_image_touches_the_middle() -> None:
    small = [
        Sample(np.full((5, 6, 3), 200 + k, np.uint8), make_sample(np.random.default_rng(0), (5, 6), 0).objects)
        for k in range(4)
    ]
    still = Augment(flip_horizontal=0, mosaic=1.0, crop=(60, 80))
    out = vary(small[0], still, np.random.default_rng(1), View(lambda size: size, fill=(7, 8, 9)), Others(small[1:]))
    rows, columns = np.nonzero(out.image[..., 0] != 7)
    assert len(rows) == 4 * 30
    assert np.ptp(rows) == 9
    assert np.ptp(columns) == 11


def test_a_mosaic_of_boxes_alone() -> None:
    images = [make_sample(np.random.default_rng(k), (40, 50), 5, masks=False) for k in range(4)]
    out = vary(images[0], Augment(mosaic=1.0), np.random.default_rng(0), AS_IT_IS, Others(images[1:]))
    assert out.size == (40, 50)
    assert len(out.objects) > 4
    assert (out.objects.boxes >= 0).all()
    assert (out.objects.boxes <= [50, 40, 50, 40]).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (3, 2000)])
def test_extreme_images_are_mixed(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(3)
    config = Augment(mosaic=0.5, copy_paste=1.0, rot90=0.5, scale=(0.5, 2.0))
    images = [make_sample(rng, size, 2), make_sample(rng, (30, 2), 4), make_sample(rng, (1, 1), 1)]
    for seed in range(20):
        out = vary(images[0], config, np.random.default_rng(seed), AS_IT_IS, Others(images))
        np.testing.assert_array_equal(out.objects.boxes, out.objects.masks.boxes())


# ---- copy-paste -----------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(1, 50), st.integers(1, 50)), st.sampled_from([0, 1, 7]), st.sampled_from([0, 1, 7]),
    st.sampled_from([0.0, 0.3]), st.sampled_from(["drop", "ignore"]), seeds,
)  # fmt: skip
def test_paste_equals_the_slow_one(
    size: tuple[int, int], below: int, above: int, min_share: float, cut: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    base, source = make_sample(rng, size, below), make_sample(rng, size, above)
    image, labels = base.image.copy(), source.objects.labels + 100
    source = Sample(source.image, replace(source.objects, labels=labels, crowd=np.zeros(above, bool)))
    out = paste(base, source, min_share, cut)
    np.testing.assert_array_equal(base.image, image)
    cover = source.objects.masks.dense().any(axis=0)
    np.testing.assert_array_equal(out.image, np.where(cover[..., None], source.image, base.image))
    rows = []
    for mask, label, crowd in zip(base.objects.masks.dense(), base.objects.labels, base.objects.crowd, strict=True):
        seen = mask & ~cover
        low = not crowd and seen.sum() < np.float32(min_share) * mask.sum()
        if seen.any() and not (low and cut == "drop"):
            rows.append((seen, label, bool(crowd) or low))
    rows += [(mask, label, False) for mask, label in zip(source.objects.masks.dense(), labels, strict=True)]
    assert out.objects.labels.tolist() == [label for _, label, _ in rows]
    assert out.objects.crowd.tolist() == [crowd for _, _, crowd in rows]
    np.testing.assert_array_equal(out.objects.masks.dense(), np.array([m for m, _, _ in rows]).reshape(-1, *size))
    np.testing.assert_array_equal(out.objects.boxes, out.objects.masks.boxes())


def test_pasted_pixels_are_the_other_images() -> None:
    """The noise of the other image is found again where its objects lie, all else is the first image."""
    rng = np.random.default_rng(0)
    base, other = (Sample(rng.integers(0, 256, (60, 60, 3), np.uint8), marked.disks(rng, (60, 60), n).objects)
                   for n in (3, 6))  # fmt: skip
    config = Augment(flip_horizontal=0, copy_paste=1.0)
    for seed in range(10):
        out = vary(base, config, np.random.default_rng(seed), AS_IT_IS, Others([other]))
        pasted = (out.image != base.image).any(axis=2)
        np.testing.assert_array_equal(out.image[pasted], other.image[pasted])
        same_size = [m for m in other.objects.masks.dense() if (pasted & m).sum() > 0.9 * m.sum()]
        assert pasted.sum() <= sum(m.sum() for m in same_size)


def test_crowds_and_cut_objects_stay_behind() -> None:
    dense = np.zeros((4, 30, 30), bool)
    dense[0, 0:6, 10:16] = True  # touches the border
    dense[1, 20:30, 20:28] = True
    dense[2, 12:18, 12:18] = True
    dense[3, 2:6, 2:6] = True  # a crowd
    masks = Masks.from_dense(dense)
    crowd = np.array([False, False, False, True])
    other = Sample(np.zeros((30, 30, 3), np.uint8), Objects(masks.boxes(), np.arange(4), masks, crowd))
    config = Augment(flip_horizontal=0, copy_paste=1.0)
    counts = set()
    for seed in range(20):
        cut = cut_out((30, 30), config, AS_IT_IS, Others([other]), np.random.default_rng(seed))
        assert cut.objects.labels.tolist() == [2]
        nothing = Sample(other.image, other.objects[[True, True, False, True]])
        assert len(cut_out((30, 30), config, AS_IT_IS, Others([nothing]), np.random.default_rng(seed)).objects) == 0
        many = small_squares(9)
        cut = cut_out((80, 90), config, AS_IT_IS, Others([many]), np.random.default_rng(seed))
        assert cut.size == (80, 90)
        counts.add(len(cut.objects))
    assert min(counts) >= 1
    assert len(counts) > 3


def test_there_is_always_something_to_paste() -> None:
    """From a large image with one small object, through a small window."""
    dense = np.zeros((1, 300, 400), bool)
    dense[0, 200:206, 30:36] = True
    masks = Masks.from_dense(dense)
    large = Sample(
        np.zeros((300, 400, 3), np.uint8), Objects(masks.boxes(), np.zeros(1, int), masks, np.zeros(1, bool))
    )
    for seed in range(10):
        cut = cut_out((40, 50), Augment(rot90=0.5), AS_IT_IS, Others([large]), np.random.default_rng(seed))
        assert cut.objects.masks.areas().tolist() == [36]


def small_squares(count: int) -> Sample:
    dense = np.zeros((count, 60, 60), bool)
    for k, mask in enumerate(dense):
        mask[5 + 6 * k : 8 + 6 * k, 20:24] = True
    masks = Masks.from_dense(dense)
    objects = Objects(masks.boxes(), np.arange(count), masks, np.zeros(count, bool))
    return Sample(np.zeros((60, 60, 3), np.uint8), objects)


def test_hidden_landmarks_are_hidden() -> None:
    mask = Masks.from_dense(np.ones((1, 10, 10), bool))
    points = np.array([[[2, 2, 2], [8, 8, 2], [2.5, 2.5, 1], [0, 0, 0], [10, 10, 2]]], np.float32)
    base = Sample(
        np.zeros((10, 10, 3), np.uint8), Objects(mask.boxes(), np.array([0]), mask, np.zeros(1, bool), points)
    )
    dense = np.zeros((1, 10, 10), bool)
    dense[0, :5, :5] = True
    top = Masks.from_dense(dense)
    source = Sample(base.image, Objects(top.boxes(), np.array([0]), top, np.zeros(1, bool), points[:, ::-1]))
    out = paste(base, source)
    assert out.objects.keypoints[0, :, 2].tolist() == [1, 2, 1, 0, 2]
    assert out.objects.keypoints[1, :, 2].tolist() == [2, 0, 1, 2, 2]
    assert points[0, 0, 2] == 2


def test_paste_refuses_boxes_alone_and_other_sizes() -> None:
    rng = np.random.default_rng(0)
    whole, bare = make_sample(rng, (9, 9), 2), make_sample(rng, (9, 9), 2, masks=False)
    for pair in ((whole, bare), (bare, whole)):
        with pytest.raises(DataError, match="copy_paste = 0"):
            paste(*pair)
    with pytest.raises(DataError, match="one size"):
        paste(whole, make_sample(rng, (9, 8), 2))


# ---- windows on objects ---------------------------------------------------------------------------------------------


def test_focus_lays_the_window_on_an_object() -> None:
    dense = np.zeros((2, 400, 600), bool)
    dense[0, 300:320, 40:70] = True
    dense[1, 10:14, 500:503] = True
    masks = Masks.from_dense(dense)
    objects = Objects(masks.boxes(), np.arange(2), masks, np.zeros(2, bool))
    config = Augment(flip_horizontal=0.5, rot90=0.5, crop=(50, 50), focus=1.0)
    seen = [0, 0]
    for seed in range(60):
        geometry = choose(config, np.random.default_rng(seed), (400, 600), objects=objects).geometry
        assert geometry.size == (50, 50)
        whole = [k for k, area in enumerate(geometry.masks(masks).areas()) if area == masks.areas()[k]]
        assert len(whole) == 1
        seen[whole[0]] += 1
        free = choose(replace(config, focus=0.0), np.random.default_rng(seed), (400, 600), objects=objects).geometry
        np.testing.assert_array_equal(free.matrix[:2, :2], geometry.matrix[:2, :2])
    assert min(seen) > 15


def test_focus_on_nothing_or_on_too_much() -> None:
    none = make_sample(np.random.default_rng(0), (90, 90), 0).objects
    config = Augment(flip_horizontal=0, crop=(30, 40), focus=1.0)
    plain = replace(config, focus=0.0)
    for objects in (none, None):
        one, two = (choose(c, np.random.default_rng(3), (90, 90), objects=objects).geometry for c in (config, plain))
        np.testing.assert_array_equal(one.matrix, two.matrix)
    masks = Masks.from_dense(np.pad(np.ones((1, 80, 60), bool), ((0, 0), (5, 5), (20, 10))))
    large = Objects(masks.boxes(), np.zeros(1, np.int64), masks, np.zeros(1, bool))
    corners = set()
    for seed in range(30):
        geometry = choose(config, np.random.default_rng(seed), (90, 90), objects=large).geometry
        assert geometry.masks(masks).areas()[0] == 30 * 40  # the window lies inside what is larger than it
        corners.add(tuple(geometry.matrix[:2, 2]))
    assert len(corners) > 20


# ---- in training ----------------------------------------------------------------------------------------------------


MIXED = Augment(
    flip_horizontal=0.5, rot90=0.5, scale=(0.7, 1.4), crop=(64, 64), focus=0.5, copy_paste=0.5, mosaic=0.5, gain=4,
    gamma=1.5, jpeg=50,
)  # fmt: skip
SPEC = InputSpec(size=80, max_size=160, resize="pillow", multiple=16)


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
def test_batches_do_not_depend_on_order_or_workers(tmp_path: Path) -> None:
    path = synthetic.coco_fixture(tmp_path, 3, size=(60, 70))
    data = coco.load(path, path.parent / "images")
    sampling = Sampling(batch_size=2, epochs=2, augment=MIXED, short_edges=(60, 80), seed=2)
    samples = TrainingSamples(data, SPEC, sampling)
    keys = [SampleKey(epoch, 0, i) for epoch in (0, 1) for i in range(len(data))]
    forth, back = [samples[key] for key in keys], [samples[key] for key in reversed(keys)][::-1]
    for one, two in zip(forth, back, strict=True):
        assert torch.equal(one.image, two.image)
        assert torch.equal(one.target.boxes, two.target.boxes)
        np.testing.assert_array_equal(one.target.masks.dense(), two.target.masks.dense())
    assert not torch.equal(forth[0].image[:, :32, :32], forth[len(data)].image[:, :32, :32])
    alone, helped = (list(Batches(data, SPEC, replace(sampling, workers=w)).start(0, 1)) for w in (0, 2))
    assert all(torch.equal(a.images, b.images) for a, b in zip(alone, helped, strict=True))


def test_what_is_pasted_comes_from_images_with_objects(tmp_path: Path) -> None:
    path = synthetic.coco_fixture(tmp_path, 3, size=(20, 20))  # the last image is empty
    data = coco.load(path, path.parent / "images")
    for empty in (True, False):
        samples = TrainingSamples(data, SPEC, Sampling(keep_empty=empty))
        rng = np.random.default_rng(0)
        filled, shown = ([samples.another(rng, filled=f) for _ in range(30)] for f in (True, False))
        assert all(len(s.objects) for s in filled)
        assert any(len(s.objects) == 0 for s in shown) == empty


def test_copy_paste_without_outlines_is_refused_at_once(tmp_path: Path) -> None:
    path = synthetic.coco_fixture(tmp_path, 3, images=2, size=(30, 30))
    data = coco.load(path, path.parent / "images")
    bare = {i: tuple(replace(a, segmentation=None) for a in rows) for i, rows in data.annotations.items()}
    with pytest.raises(ConfigError, match="copy_paste needs outlines"):
        Batches(replace(data, annotations=bare), SPEC, Sampling(masks=False, augment=Augment(copy_paste=0.1)))
    boxes = Batches(replace(data, annotations=bare), SPEC, Sampling(masks=False, augment=Augment(mosaic=1.0)))
    assert all(len(b) for b in boxes.start())


def test_targets_carry_landmarks(tmp_path: Path) -> None:
    path = synthetic.coco_fixture(tmp_path, 3, images=2, size=(60, 70))
    data = coco.load(path, path.parent / "images")
    marks = marked.PAIR
    points = {
        i: tuple(
            replace(a, keypoints=np.array([[a.box[0], a.box[1], 2], [a.box[2], a.box[1], 2], [0, 0, 0]])) for a in rows
        )
        for i, rows in data.annotations.items()
    }
    plain = data.classes
    data = replace(data, annotations=points, classes=Classes(plain.names, plain.ids, [marks] * len(plain)))
    still, flipped = (
        TrainingSamples(data, SPEC, Sampling(augment=a))[SampleKey(0, 0, 0)]
        for a in (Augment(flip_horizontal=0.0), Augment(flip_horizontal=1.0))
    )
    assert still.target.keypoints.dtype == torch.float32
    assert still.target.keypoints.shape == (len(still.target), 3, 3)
    x = flipped.image.shape[2] - still.target.keypoints[:, [1, 0], 0]
    np.testing.assert_allclose(flipped.target.keypoints[:, :2, 0], x, atol=1e-4)
    batch = next(Batches(data, SPEC, Sampling(augment=MIXED)).start()).to(torch.device("meta"))
    assert batch.targets[0].keypoints.device.type == "meta"
    none = TrainingSamples(replace(data, classes=plain), SPEC, Sampling())[SampleKey(0, 0, 0)]
    assert none.target.keypoints is None
