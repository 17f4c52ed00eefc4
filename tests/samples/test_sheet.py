"""The contact sheet shows the samples of a run as they are."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from maskwright.cli import app
from maskwright.data.dataset import Dataset
from maskwright.data.synthetic import scenes_fixture
from maskwright.errors import DataError
from maskwright.samples.augment import STRONG, Augment
from maskwright.samples.loader import SampleKey, Sampling, TrainingSamples
from maskwright.samples.sheet import GAP, LINE, as_seen, described, sheet
from maskwright.types import Classes, InputSpec

SIZE = (60, 80)
SPEC = InputSpec(size=60, max_size=120, resize="pillow")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return scenes_fixture(tmp_path_factory.mktemp("süß scenes"), 1, images=5, size=SIZE, objects=4)


@pytest.mark.parametrize("channels", ["RGB", "BGR"])
def test_seen_is_the_input_in_colours(data: Dataset, channels: str) -> None:
    spec = InputSpec(size=60, resize="pillow", channels=channels)
    samples = TrainingSamples(data, spec, Sampling(augment=Augment(flip_horizontal=1.0)))
    item, original = samples[SampleKey(0, 0, 0)], samples.sample(0)
    seen = as_seen(item, spec, original.objects)
    np.testing.assert_array_equal(seen.image, original.image[:, ::-1])
    np.testing.assert_array_equal(seen.objects.boxes, item.target.boxes)
    np.testing.assert_array_equal(seen.objects.keypoints, item.target.keypoints)
    assert seen.objects.landmarks == data.classes.landmarks


def test_originals_are_beside_their_variations(data: Dataset) -> None:
    made = sheet(data, SPEC, Sampling(), 5)
    cell = (6 * SIZE[0] + LINE, 6 * SIZE[1])  # enlarged to the whole factor that fits
    assert made.shape == (2 * cell[0] + 3 * GAP, 4 * cell[1] + 5 * GAP, 3)
    shown = [made[GAP + LINE : GAP + cell[0], GAP + k * (cell[1] + GAP) :][:, : cell[1]] for k in range(4)]
    for one in shown[1:]:
        np.testing.assert_array_equal(one, shown[0])  # nothing varies: the input is the image
    below = made[2 * GAP + cell[0] :]
    assert (below[:, GAP : cell[1]] != 255).any()
    assert (below[: cell[0], 4 * GAP + 3 * cell[1] :] == 255).all()  # five samples: three and two


def test_a_sheet_repeats_and_varies_with_the_seed(data: Dataset) -> None:
    one, two, other = (sheet(data, SPEC, Sampling(augment=STRONG, seed=s), 3) for s in (0, 0, 1))
    np.testing.assert_array_equal(one, two)
    assert one.shape != other.shape or (one != other).any()


@pytest.mark.parametrize("size", [(1, 1), (2000, 5), (7, 600)])
def test_odd_images(tmp_path: Path, size: tuple[int, int]) -> None:
    data = scenes_fixture(tmp_path, 2, images=1, size=size, objects=2)
    assert sheet(data, SPEC, Sampling(augment=STRONG), 2).ndim == 3


def test_boxes_alone_and_crowds(data: Dataset) -> None:
    rows = {i: tuple(replace(a, segmentation=None, crowd=k == 0) for k, a in enumerate(found))
            for i, found in data.annotations.items()}  # fmt: skip
    bare = replace(data, annotations=rows, classes=Classes(data.classes.names))
    assert (sheet(bare, SPEC, Sampling(augment=Augment()), 3) != 255).any()
    empty = replace(data, annotations=dict.fromkeys(data.annotations, ()))
    with pytest.raises(DataError, match="has an object"):
        sheet(empty, SPEC, Sampling(), 3)


def test_the_global_stream_is_left_alone(data: Dataset) -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    sheet(data, SPEC, Sampling(augment=STRONG), 2)
    assert torch.equal(torch.rand(1), expected)


def test_captions_count_in_words(data: Dataset) -> None:
    sample = TrainingSamples(data, InputSpec(size=60, resize="pillow"), Sampling()).sample(0)
    assert described(sample).endswith(f"{len(sample.objects)} objects")
    one = replace(sample, objects=sample.objects[np.array([0])])
    assert described(one) == f"{SIZE[0]}x{SIZE[1]}, 1 object"


# ---- the command ----------------------------------------------------------------------------------------------------


def test_the_command(data: Dataset, tmp_path: Path) -> None:
    def run(*words: object) -> tuple[int, str, str]:
        base = ["data", "show", str(data.source), "--images", str(data.root), "--count", "2"]
        result = CliRunner().invoke(app, [*base, *map(str, words)])
        return result.exit_code, result.stdout, result.stderr

    out = tmp_path / "new folder" / "blatt ö.png"
    code, stdout, stderr = run("--out", out)
    assert (code, stdout.strip()) == (0, str(out))
    assert "augment = flip_horizontal 0.5, " in stderr  # what is always so is said too
    plain = np.array(Image.open(out))
    code, _, stderr = run("--out", out)
    assert code == 2
    assert "not overwritten" in stderr
    for kind in ("none", "strong"):
        assert run("--out", tmp_path / f"{kind}.png", "--augment", kind)[0] == 0
    assert not np.array_equal(np.array(Image.open(tmp_path / "strong.png")), plain)
    code, _, stderr = run("--out", tmp_path / "x.png", "--augment", "stong")
    assert code == 2
    assert "Did you mean 'strong'?" in stderr
    settings = tmp_path / "run.toml"
    settings.write_text("size = 64\n[augment]\nflip_horizontal = 1.0\ngamma = 2.0\n")
    assert run("--out", tmp_path / "y.png", "--config", settings)[0] == 0
    settings.write_text("[augment]\ngama = 2.0\n")
    code, _, stderr = run("--out", tmp_path / "z.png", "--config", settings)
    assert code == 2
    assert "gamma" in stderr
    assert not (tmp_path / "z.png").exists()
