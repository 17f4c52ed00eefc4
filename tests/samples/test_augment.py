"""Augmentation: objects follow the image, nothing is random after `choose`, a moved image equals its slow twin."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.reference.geometry import moved
from tests.samples.marked import make_sample

from maskwright.errors import ConfigError, DataError
from maskwright.geometry import Geometry
from maskwright.samples.augment import Augment, Choice, apply, augment, choose, move_objects
from maskwright.samples.colour import ColourJitter
from maskwright.samples.sample import Objects, Sample
from maskwright.types import Masks

EVERYTHING = Augment(
    flip_horizontal=0.5,
    flip_vertical=0.5,
    rot90=0.75,
    rotate=25.0,
    scale=(0.5, 2.0),
    crop=(24, 31),
    brightness=0.3,
    contrast=0.3,
    saturation=0.3,
    hue=0.1,
    grey=0.3,
    invert=0.3,
    blur=1.5,
    noise=10.0,
    gain=8.0,
    gamma=2.0,
    jpeg=80.0,
    focus=0.5,
)


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    size = (draw(st.integers(1, 60)), draw(st.integers(1, 60)))
    return make_sample(rng, size, draw(st.sampled_from([0, 1, 7])), masks=draw(st.booleans()))


@st.composite
def configs(draw: st.DrawFn) -> Augment:
    chance = st.sampled_from([0.0, 0.5, 1.0])
    return Augment(
        flip_horizontal=draw(chance),
        flip_vertical=draw(chance),
        rot90=draw(chance),
        rotate=draw(st.sampled_from([0.0, 30.0])),
        scale=draw(st.sampled_from([(1.0, 1.0), (0.4, 2.5)])),
        crop=draw(st.sampled_from([None, (1, 1), (20, 33)])),
        min_share=draw(st.sampled_from([0.0, 0.1, 0.9])),
        cut=draw(st.sampled_from(["drop", "ignore"])),
    )


def test_the_numbers_of_earlier_kinds_stay() -> None:
    """A run that was started before a kind existed goes on with the same variations."""
    old = {k: v for k, v in vars(EVERYTHING).items() if k not in ("gain", "gamma", "jpeg", "focus")}
    choice = choose(Augment(**old), np.random.default_rng(7), (40, 50))
    matrix = [[1.65451934, 0.29062133, -49.17541004], [-0.29148885, 1.64959518, 7.7953178], [0, 0, 1]]
    np.testing.assert_allclose(choice.geometry.matrix, matrix, atol=1e-8)
    assert choice.colour.noise_seed == 5738590506739472347
    for seed in range(20):
        one, two = (choose(c, np.random.default_rng(seed), (40, 50)).colour for c in (Augment(**old), EVERYTHING))
        assert replace(two, gain=1.0, gamma=1.0, jpeg=100) == one


@settings(max_examples=80, deadline=None)
@given(samples(), configs(), st.integers(0, 2**32))
def test_boxes_lie_in_the_image_and_are_tight(sample: Sample, config: Augment, seed: int) -> None:
    choice = choose(config, np.random.default_rng(seed), sample.image.shape[:2])
    out = apply(sample, choice)
    found, (height, width) = out.objects, out.image.shape[:2]
    assert (height, width) == choice.geometry.size
    assert (found.boxes[:, 2:] - found.boxes[:, :2] >= 1).all()
    assert (found.boxes >= 0).all()
    assert (found.boxes <= [width, height, width, height]).all()
    if found.masks is not None:
        np.testing.assert_array_equal(found.boxes, found.masks.boxes())
        whole = choice.geometry.masks(sample.objects.masks).dense()  # labels are row numbers: each follows its mask
        np.testing.assert_array_equal(found.masks.dense(), whole[found.labels])
    kept_crowd = sample.objects.crowd[found.labels]
    assert (found.crowd >= kept_crowd).all()
    if config.cut == "drop":
        np.testing.assert_array_equal(found.crowd, kept_crowd)


@settings(max_examples=30, deadline=None)
@given(samples(), st.integers(0, 2**32))
def test_the_same_seed_gives_the_same_sample(sample: Sample, seed: int) -> None:
    one, two = (augment(sample, EVERYTHING, np.random.default_rng(seed)) for _ in range(2))
    np.testing.assert_array_equal(one.image, two.image)
    np.testing.assert_array_equal(one.objects.boxes, two.objects.boxes)
    np.testing.assert_array_equal(one.objects.labels, two.objects.labels)


def test_another_seed_gives_another_sample() -> None:
    sample = make_sample(np.random.default_rng(0), (40, 50), 3)
    one, two = (augment(sample, EVERYTHING, np.random.default_rng(seed)) for seed in (1, 2))
    assert not np.array_equal(one.image, two.image)


def test_switching_colour_on_does_not_move_the_image_elsewhere() -> None:
    plain = Augment(flip_vertical=0.5, rot90=0.5, scale=(0.5, 2.0), crop=(20, 20))
    coloured = Augment(flip_vertical=0.5, rot90=0.5, scale=(0.5, 2.0), crop=(20, 20), hue=0.3, invert=0.5, noise=9)
    for seed in range(10):
        one, two = (choose(c, np.random.default_rng(seed), (40, 50)).geometry for c in (plain, coloured))
        np.testing.assert_array_equal(one.matrix, two.matrix)


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (3, 2000)])
def test_extreme_images_survive_everything(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        out = augment(make_sample(rng, size, 2), EVERYTHING, rng)
        assert min(out.image.shape[:2]) >= 1


# ---- pixels -----------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(samples(), configs(), st.integers(0, 2**32))
def test_a_moved_image_equals_the_slow_one(sample: Sample, config: Augment, seed: int) -> None:
    """Magnifying or copying maps: Pillow and torch interpolate alike within rounding, also at the border."""
    config = Augment(**{**vars(config), "scale": (1.0, 1.0) if config.scale == (1.0, 1.0) else (1.0, 2.5)})
    geometry = choose(config, np.random.default_rng(seed), sample.image.shape[:2]).geometry
    got = geometry.image(sample.image, fill=(9, 8, 7))
    want = moved(sample.image, geometry, fill=(9, 8, 7))
    assert got.shape == want.shape
    different = np.abs(got.astype(int) - want) > 2
    assert different.mean() <= (0 if config.rotate == 0 else 0.15 * 4 / min(got.shape[:2]) + 0.001)


def test_flips_turns_and_crops_copy_pixels() -> None:
    image = np.random.default_rng(0).integers(0, 256, (7, 11, 3), dtype=np.uint8)
    flip = Geometry.flip((7, 11), horizontal=True)
    np.testing.assert_array_equal(flip.image(image), image[:, ::-1])
    turn = Augment(flip_horizontal=0, rot90=1.0)
    seen = set()
    for seed in range(30):
        out = choose(turn, np.random.default_rng(seed), (7, 11)).geometry.image(image)
        turns = next(k for k in (1, 2, 3) if np.array_equal(out, np.rot90(image, -k)))
        seen.add(turns)
    assert seen == {1, 2, 3}
    window = Geometry.crop((7, 11), -1, 2, (4, 20)).image(image, fill=(1, 2, 3))
    np.testing.assert_array_equal(window[1:, :9], image[:3, 2:])
    assert (window[0] == [1, 2, 3]).all()
    assert (window[:, 9:] == [1, 2, 3]).all()


def test_shrinking_averages_unless_told_not_to() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 200
    small = Geometry.resize((64, 64), (16, 16))
    assert np.abs(small.image(stripes).astype(int) - 100).max() <= 40
    for turn in (0.0, 5.0):
        geometry = small.then(Geometry.affine((16, 16), degrees=turn))
        assert geometry.image(stripes)[4:12, 4:12].std() < 20
    from_centres = small.image(
        np.repeat(np.arange(64, dtype=np.uint8)[None, :, None], 64, 0).repeat(3, 2), antialias=False
    )
    np.testing.assert_allclose(from_centres[8, :, 0], np.arange(16) * 4 + 1.5, atol=0.51)


# ---- colour -----------------------------------------------------------------------------------------------------


def test_colour_changes() -> None:
    image = np.random.default_rng(0).integers(40, 200, (8, 9, 3), dtype=np.uint8)
    assert ColourJitter().apply(image) is image
    np.testing.assert_array_equal(ColourJitter(invert=True).apply(image), 255 - image)
    grey = ColourJitter(saturation=0.0).apply(image)
    assert (np.ptp(grey, axis=2) == 0).all()
    np.testing.assert_allclose(grey[..., 0], image @ [0.299, 0.587, 0.114], atol=0.51)
    np.testing.assert_array_equal(ColourJitter(brightness=0.5).apply(image), np.rint(image * 0.5).astype(np.uint8))
    flat = ColourJitter(contrast=0.0).apply(image)
    assert np.ptp(flat) == 0
    np.testing.assert_allclose(ColourJitter(hue=0.3).apply(grey), grey, atol=1)
    turned = np.rint(
        np.clip(
            ColourJitter(hue=0.25).apply(ColourJitter(hue=0.25).apply(np.full((1, 1, 3), [120, 110, 100], np.uint8))),
            0,
            255,
        )
    )
    np.testing.assert_allclose(
        turned, ColourJitter(hue=0.5).apply(np.full((1, 1, 3), [120, 110, 100], np.uint8)), atol=2
    )


def test_gamma_bends_the_values() -> None:
    ramp = np.arange(256, dtype=np.uint8)[None, :, None].repeat(3, 2)
    bent = ColourJitter(gamma=2.0).apply(ramp)
    np.testing.assert_array_equal(bent[0, :, 0], np.rint(255 * (np.arange(256) / 255) ** 2))
    both = ColourJitter(gamma=2.0, contrast=0.5).apply(ramp).astype(float)
    np.testing.assert_allclose(both, 0.5 * bent + 0.5 * bent.mean(), atol=1)
    assert bent.min() == 0
    assert bent.max() == 255


def test_a_gain_scales_and_stops_where_something_would_be_lost() -> None:
    image = np.zeros((40, 40, 3), np.uint8)
    image[10:20, 10:20] = 50
    image[12, 12] = 250  # a single hot pixel is not the bright end
    np.testing.assert_array_equal(ColourJitter(gain=2.0).apply(image)[15, 15], [100] * 3)
    np.testing.assert_array_equal(ColourJitter(gain=0.5).apply(image)[15, 15], [25] * 3)
    np.testing.assert_array_equal(ColourJitter(gain=50.0).apply(image)[15, 15], [255] * 3)
    np.testing.assert_array_equal(ColourJitter(gain=0.01).apply(image)[15, 15], [16] * 3)
    dark = image // 10
    np.testing.assert_array_equal(ColourJitter(gain=0.1).apply(dark), dark)  # nothing left to lose
    np.testing.assert_array_equal(ColourJitter(gain=10.0).apply(dark)[15, 15], [50] * 3)
    ground = np.zeros((9, 9, 3), np.uint8)  # a window without objects is as bright as its image lets it be
    np.testing.assert_array_equal(ColourJitter(gain=9.0).apply(ground + 10, image)[0, 0], [51] * 3)
    huge = np.zeros((3000, 2000, 3), np.uint8)
    huge[:100] = 51
    np.testing.assert_array_equal(ColourJitter(gain=9.0).apply(ground + 10, huge)[0, 0], [50] * 3)
    black = np.zeros((4, 4, 3), np.uint8)
    np.testing.assert_array_equal(ColourJitter(gain=10.0).apply(black), black)
    white = np.full((4, 4, 3), 255, np.uint8)
    np.testing.assert_array_equal(ColourJitter(gain=10.0).apply(white), white)
    square = ColourJitter(gain=4.0, gamma=2.0).apply(image)  # 50 -> 9.8 -> 39.2
    assert square[15, 15, 0] == 39


def test_jpeg_leaves_its_marks() -> None:
    image = np.random.default_rng(0).integers(0, 256, (33, 41, 3), dtype=np.uint8)
    errors = [np.abs(ColourJitter(jpeg=q).apply(image).astype(int) - image).mean() for q in (100, 90, 10)]
    assert errors[0] == 0
    assert 0 < errors[1] < errors[2]
    long = np.zeros((70000, 1, 3), np.uint8)
    np.testing.assert_array_equal(ColourJitter(jpeg=50).apply(long), long)


def test_drawn_colours_keep_their_ranges() -> None:
    config = Augment(gain=10, gamma=1.5, jpeg=60)
    drawn = [choose(config, np.random.default_rng(seed), (9, 9)).colour for seed in range(400)]
    for values, largest in (([c.gain for c in drawn], 10), ([c.gamma for c in drawn], 1.5)):
        assert 1 / largest <= min(values) < 1.1 / largest
        assert 0.9 * largest < max(values) <= largest
        assert 150 < sum(v > 1 for v in values) < 250
    assert 150 < sum(c.jpeg == 100 for c in drawn) < 260
    assert min(c.jpeg for c in drawn) in (40, 41, 42)


def test_noise_and_blur_have_their_size() -> None:
    grey = np.full((64, 64, 3), 128, np.uint8)
    noisy = ColourJitter(noise=8.0, noise_seed=5).apply(grey)
    assert noisy.std() == pytest.approx(8, rel=0.05)
    np.testing.assert_array_equal(noisy, ColourJitter(noise=8.0, noise_seed=5).apply(grey))
    point = np.zeros((21, 21, 3), np.uint8)
    point[10, 10] = 255
    blurred = ColourJitter(blur=1.0).apply(point)
    assert 20 < blurred[10, 10, 0] < 80


# ---- objects at the border --------------------------------------------------------------------------------------


def border_objects(*, masks: bool, crowd: bool = False) -> Objects:
    """One object 10 wide of which the crop keeps 3 columns (share 0.3), one that is far away."""
    dense = np.zeros((2, 20, 40), bool)
    dense[0, 5:15, 7:17] = True
    dense[1, 5:15, 30:40] = True
    crops = Masks.from_dense(dense)
    return Objects(crops.boxes(), np.array([4, 5]), crops if masks else None, np.array([crowd, crowd]))


@pytest.mark.parametrize("masks", [True, False])
def test_objects_cut_at_the_border(masks: bool) -> None:
    geometry = Geometry.crop((20, 40), 0, 0, (20, 10))
    objects = border_objects(masks=masks)
    kept = move_objects(objects, Choice(geometry, min_share=0.25))
    np.testing.assert_array_equal(kept.boxes, [[7, 5, 10, 15]])
    assert kept.labels.tolist() == [4]
    assert not kept.crowd.any()
    assert len(move_objects(objects, Choice(geometry, min_share=0.35))) == 0
    ignored = move_objects(objects, Choice(geometry, min_share=0.35, cut="ignore"))
    assert ignored.labels.tolist() == [4]
    assert ignored.crowd.all()
    region = move_objects(border_objects(masks=masks, crowd=True), Choice(geometry, min_share=0.35))
    assert region.crowd.tolist() == [True]


def test_a_box_thinner_than_a_pixel_goes() -> None:
    objects = Objects(np.array([[9.5, 0, 30, 10], [0, 0, 3, 3]], np.float32), np.array([0, 1]), None, np.zeros(2, bool))
    kept = move_objects(objects, Choice(Geometry.crop((20, 40), 0, 0, (20, 10))))
    assert kept.labels.tolist() == [1]


@pytest.mark.parametrize(
    "bad",
    [
        {"flip_horizontal": 1.5}, {"rot90": -0.1}, {"rotate": 200}, {"scale": (0, 1)}, {"scale": (2, 1)},
        {"crop": (0, 5)}, {"hue": 0.6}, {"cut": "hide"}, {"noise": float("nan")},
        {"gain": 0.5}, {"gamma": 0.0}, {"gamma": 11}, {"jpeg": 100}, {"copy_paste": 1.1}, {"mosaic": -1},
        {"focus": 0.5},
    ],
)  # fmt: skip
def test_wrong_configs_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(bad))):
        Augment(**bad)


def test_objects_and_sample_check_their_shapes() -> None:
    with pytest.raises(DataError, match="1 boxes but 2 labels"):
        Objects(np.zeros((1, 4), np.float32), np.zeros(2, np.int64), None, np.zeros(1, bool))
    with pytest.raises(DataError, match="image is"):
        Sample(np.zeros((4, 4, 3), np.uint8), Objects(np.zeros((0, 4)), np.zeros(0), Masks.empty((4, 5)), np.zeros(0)))
