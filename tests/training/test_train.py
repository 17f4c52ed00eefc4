"""Training with a tiny model: it learns, resumes to the same bits, stops when asked, and never loses a checkpoint."""

import csv
import math
import os
import re
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from maskwright.data.dataset import Annotation, Dataset, ImageRecord
from maskwright.data.formats import coco
from maskwright.data.synthetic import coco_fixture
from maskwright.errors import ConfigError, DataError, TrainingError
from maskwright.models import rcnn
from maskwright.models.base import AnyModel, Config, Draws, Model, draws_of
from maskwright.models.rcnn import RCNN
from maskwright.ops.losses import Term, mask_bce_sum
from maskwright.predictor.load import load
from maskwright.samples.augment import Augment
from maskwright.samples.loader import Batches, Sampling
from maskwright.training import checkpoint
from maskwright.training.checkpoint import Ema
from maskwright.training.config import TrainConfig
from maskwright.training.fit import affordable, draws, fit
from maskwright.training.learning import LearningSettings, build_optimizer, learning_rate
from maskwright.training.position import LengthSettings, Position
from maskwright.training.resolved import Resolved
from maskwright.training.run import Run
from maskwright.training.train import train
from maskwright.types import BoxMasks, Classes, Inputs, InputSpec, Part, Target
from maskwright.weights import files

pytestmark = pytest.mark.usefixtures("one_thread")

EARLIER = Path(__file__).parent / "earlier"
"""Files that an earlier version wrote."""

GEOMETRIC = Augment(flip_horizontal=0.5, flip_vertical=0.5, rot90=0.5, scale=(0.8, 1.25), crop=(32, 32), noise=4.0)


SPEC = InputSpec(size=32, max_size=64, resize="pillow", mean=(60, 60, 60), std=(60, 60, 60), multiple=8)


@dataclass(frozen=True)
class TinyConfig(Config):
    """Of a family that is none of those in the package."""

    spec: InputSpec = SPEC
    masks: bool = True

    @property
    def parts(self) -> tuple[type[Part], ...]:
        return (BoxMasks,) if self.masks else ()


class Tiny(Model[TinyConfig]):
    """Paints the foreground; has a norm with statistics, dropout, and draws from the generator it is given."""

    def __init__(self) -> None:
        super().__init__(TinyConfig())
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Dropout2d(0.1),
            nn.Conv2d(8, 1, 3, padding=1),
        )
        self.bad_at: int | None = None
        self.calls = 0

    def terms(self, inputs: Inputs, targets: Sequence[Target], generator: Draws = None) -> dict[str, Term]:
        images = inputs.images
        truth = torch.zeros(len(images), 1, *images.shape[2:])
        for row, target, size in zip(truth, targets, inputs.sizes, strict=True):
            if len(target):
                assert target.masks.size == size
                row[0, : size[0], : size[1]] = torch.from_numpy(target.masks.dense().any(axis=0)).float()
        logits = self.layers(images)
        chosen = torch.zeros(logits.shape, dtype=torch.bool)
        for row, draw in zip(chosen, draws_of(generator, len(images)), strict=True):
            row.copy_(torch.rand(row.shape, generator=draw) < 0.5)
        mask = mask_bce_sum(logits[chosen], truth[chosen])
        self.calls += 1
        size_loss = logits.float().square().sum() * (math.nan if self.calls == self.bad_at else 1e-3)
        return {"loss_mask": Term(mask, int(chosen.sum())), "loss_size": Term(size_loss, logits.numel())}


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    """Eight images with bright squares on a dark ground; one has no object, one has a crowd."""
    rng, records, annotations = np.random.default_rng(0), [], {}
    (tmp_path / "images").mkdir()
    for i in range(8):
        size = (32, 40 + i)
        image = rng.integers(0, 40, (*size, 3), dtype=np.uint8)
        rows = []
        for k in range(i % 4):
            x, y = 2 + 10 * k, int(rng.integers(2, 15))
            image[y : y + 9, x : x + 8] += 150
            polygon = np.array([x, y, x + 8, y, x + 8, y + 9, x, y + 9], float)
            box = (float(x), float(y), float(x + 8), float(y + 9))
            rows.append(Annotation(10 * i + k, i, 0, box, (polygon,), 72.0, crowd=(i, k) == (7, 1)))
        records.append(ImageRecord(i, f"{i}.png", size))
        annotations[i] = tuple(rows)
        Image.fromarray(image).save(tmp_path / "images" / f"{i}.png")
    return Dataset(Classes(["square"]), tuple(records), annotations, tmp_path / "images", tmp_path / "data.json")


def make_model() -> Tiny:
    torch.manual_seed(5)
    return Tiny()


def make_config(out: Path, **changes: Any) -> TrainConfig:
    base = TrainConfig(
        out=str(out), epochs=4, batch_size=3, lr=0.01, warmup=3, ema=0.9, augment=GEOMETRIC, seed=3, device="cpu",
        log_every=1, progress=False,
    )  # fmt: skip
    return replace(base, **changes)


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_same(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


# ---- learning -------------------------------------------------------------------------------------------------------


def mean_losses(model: AnyModel, data: Dataset) -> dict[str, float]:
    sampling = Sampling(batch_size=len(data), masks=model.config.draws_masks)
    (batch,) = Batches(data, model.config.spec, sampling).start()
    with torch.no_grad():
        losses = model.loss(batch.inputs, batch.targets, draws(0, batch))
    return {name: float(value) for name, value in losses.items()}


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_tiny_model_learns(data: Dataset, tmp_path: Path, precision: str, request: pytest.FixtureRequest) -> None:
    if precision == "bf16":
        request.getfixturevalue("bf16")
    model = make_model()
    before = mean_losses(model.eval(), data)
    config = make_config(
        tmp_path / "run", epochs=20, batch_size=4, lr=0.02, augment=Augment(), precision=precision, ema=None
    )
    history = fit(model, data, None, config)
    after = mean_losses(model.eval(), data)
    assert after["loss_mask"] < before["loss_mask"] / 4
    assert (history.iterations, history.epochs, history.stopped) == (40, 20, "finished")
    assert all(p.dtype == torch.float32 for p in model.parameters())


def test_the_log_tells_what_happened(data: Dataset, tmp_path: Path) -> None:
    saved: list[tuple[str, float]] = []
    history = fit(
        make_model(), data, data, make_config(tmp_path / "run"),
        evaluate=lambda model, _: {"AP": float(model.layers[1].num_batches_tracked), "other": 0.5},
        save=lambda model, path, metrics: saved.append((path.name, metrics["AP"])),
    )  # fmt: skip
    rows = read(tmp_path / "run" / "log.csv")
    assert [int(r["iteration"]) for r in rows] == list(range(1, 13))
    assert list(rows[0]) == [
        "iteration", "epoch", "lr", "loss_mask", "loss_size", "loss", "grad_norm", "images_per_second",
        "waiting_share",
    ]  # fmt: skip
    assert float(rows[5]["loss"]) == pytest.approx(float(rows[5]["loss_mask"]) + float(rows[5]["loss_size"]), rel=1e-5)
    assert all(0 <= float(r["waiting_share"]) <= 1 and float(r["images_per_second"]) > 0 for r in rows)
    measured = [(int(r["iteration"]), float(r["AP"])) for r in read(tmp_path / "run" / "metrics.csv")]
    assert measured == [(3, 3.0), (6, 6.0), (9, 9.0), (12, 12.0)]
    assert saved == [*[("best.safetensors", v) for v in (3.0, 6.0, 9.0, 12.0)], ("last.safetensors", 12.0)]
    assert history.best == 12.0
    assert len(history.losses) == 12


def test_only_better_weights_are_saved_as_best(data: Dataset, tmp_path: Path) -> None:
    values, saved = iter([0.3, 0.2, 0.4, 0.1]), []
    fit(
        make_model(), data, data, make_config(tmp_path / "run"), evaluate=lambda *_: {"AP": next(values)},
        save=lambda model, path, metrics: saved.append((path.name, metrics["AP"])),
    )  # fmt: skip
    assert saved == [("best.safetensors", 0.3), ("best.safetensors", 0.4), ("last.safetensors", 0.1)]


def test_accumulated_batches_give_the_gradient_of_one_large_batch(data: Dataset, tmp_path: Path) -> None:
    class Plain(Tiny):
        """A mean over images with nothing random and no batch statistics."""

        def terms(self, inputs: Inputs, targets: Sequence[Target], generator: Draws = None) -> dict[str, Term]:
            squares = self.layers[0](inputs.images[:, :, :32, :40]).square()
            return {"loss": Term(squares.sum(), squares.numel())}

    results = []
    for name, changes in (("one", {"batch_size": 4}), ("parts", {"batch_size": 2, "accumulate": 2})):
        torch.manual_seed(5)
        model = Plain()
        config = make_config(tmp_path / name, augment=None, epochs=2, optimizer="sgd", ema=None, **changes)
        history = fit(model, data, None, config)
        assert history.iterations == 4
        results.append(weights(model))
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-6)


def test_every_image_draws_its_own_samples(data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each time it is shown, whatever else is in its batch."""
    seeds: list[int] = []
    terms = Tiny.terms

    def noting(self: Tiny, inputs: Inputs, targets: Any, generator: Any) -> dict[str, Term]:
        seeds.extend(draw.initial_seed() for draw in generator)
        return terms(self, inputs, targets, generator)

    monkeypatch.setattr(Tiny, "terms", noting)
    for name, changes in (("a", {}), ("b", {"batch_size": 5}), ("c", {"seed": 4}), ("d", {"repeats": 2, "epochs": 1})):
        fit(make_model(), data, None, make_config(tmp_path / name, **{"epochs": 2, "accumulate": 2, **changes}))
    a, b, c, d = (seeds[i : i + 16] for i in range(0, 64, 16))
    assert a == b
    assert len({*a, *c, *d}) == 16 + 16 + 8  # the first epoch of d is that of a


def test_the_callers_random_numbers_go_on_undisturbed(data: Dataset, tmp_path: Path) -> None:
    torch.manual_seed(1)
    expected = torch.rand(2)
    model = make_model()
    torch.manual_seed(1)
    fit(model, data, None, make_config(tmp_path / "run", epochs=1))
    assert torch.equal(torch.rand(2), expected)


# ---- resuming -------------------------------------------------------------------------------------------------------


def test_resumed_after_an_epoch_to_the_same_bits(data: Dataset, tmp_path: Path) -> None:
    straight, parts = make_model(), make_model()
    fit(straight, data, None, make_config(tmp_path / "straight"))

    def stop_after_two(model: Model, _: Dataset) -> dict[str, float]:
        if int(model.layers[1].num_batches_tracked) == 6:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)  # an evaluation that takes long: it is given up
        return {"AP": 0.0}

    first = fit(parts, data, data, make_config(tmp_path / "parts"), evaluate=stop_after_two)
    assert (first.stopped, first.iterations) == ("SIGTERM", 6)
    assert [row["iteration"] for row in first.metrics] == [3]
    resumed = make_model()
    second = fit(resumed, data, data, make_config(tmp_path / "parts", resume=True), evaluate=lambda *_: {"AP": 0.0})
    assert second.iterations == 12
    assert [row["iteration"] for row in second.metrics] == [6, 9, 12]  # what was given up is done first
    assert_same(weights(straight), weights(resumed))
    states = [checkpoint.load(tmp_path / name / "last.state") for name in ("straight", "parts")]
    assert_same(states[0]["ema"]["model"], states[1]["ema"]["model"])
    keep = ("iteration", "epoch", "lr", "loss_mask", "loss_size", "loss", "grad_norm")
    logs = [[[r[k] for k in keep] for r in read(tmp_path / name / "log.csv")] for name in ("straight", "parts")]
    assert logs[0] == logs[1]


@pytest.mark.parametrize(("stop_at", "workers"), [(1, 0), (2, 0), (4, 0), (4, 1)])
def test_resumed_inside_an_epoch_to_the_same_bits(
    data: Dataset, tmp_path: Path, stop_at: int, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = make_model()
    fit(straight, data, None, make_config(tmp_path / "straight", epochs=2))
    parts = make_model()
    terms = Tiny.terms

    def stopping(self: Tiny, *args: Any) -> dict[str, Term]:
        if self.calls + 1 == stop_at:
            os.kill(os.getpid(), signal.SIGINT)
        return terms(self, *args)

    monkeypatch.setattr(Tiny, "terms", stopping)
    first = fit(parts, data, None, make_config(tmp_path / "parts", epochs=2, workers=workers))
    assert (first.stopped, first.iterations) == ("SIGINT", stop_at)
    monkeypatch.undo()
    resumed = make_model()
    fit(resumed, data, None, make_config(tmp_path / "parts", epochs=2, resume=True, workers=workers))
    assert_same(weights(straight), weights(resumed))


def test_a_run_killed_without_warning_repeats_from_its_last_state(data: Dataset, tmp_path: Path) -> None:
    """What is left after kill -9: a state of epoch 2, a log that went further, a half-written state."""
    straight = make_model()
    fit(straight, data, None, make_config(tmp_path / "straight"))

    class Killed(BaseException):
        """Nothing catches it."""

    def die(model: Model, _: Dataset) -> dict[str, float]:
        if int(model.layers[1].num_batches_tracked) == 9:
            raise Killed
        return {"AP": 0.0}

    with pytest.raises(Killed):
        fit(make_model(), data, data, make_config(tmp_path / "parts"), evaluate=die)
    (tmp_path / "parts" / ".last.state.0000.part").write_bytes(b"half")
    with (tmp_path / "parts" / "log.csv").open("a") as log:
        log.write("10,3,0.1,1,1,1,1,1,1\n11,3,0.")
    with (tmp_path / "parts" / "metrics.csv").open("a") as log:
        log.write("9,3,0.0\n")  # measured, but the state that says so was not written
    resumed = make_model()
    fit(resumed, data, data, make_config(tmp_path / "parts", resume=True), evaluate=lambda *_: {"AP": 0.0})
    assert_same(weights(straight), weights(resumed))
    assert [int(r["iteration"]) for r in read(tmp_path / "parts" / "log.csv")] == list(range(1, 13))
    assert [int(r["iteration"]) for r in read(tmp_path / "parts" / "metrics.csv")] == [3, 6, 9, 12]
    assert not list((tmp_path / "parts").glob(".*.part"))


def test_a_finished_run_resumed_changes_nothing(data: Dataset, tmp_path: Path) -> None:
    fit(make_model(), data, None, make_config(tmp_path / "run"))
    before = checkpoint.load(tmp_path / "run" / "last.state")["model"]
    history = fit(make_model(), data, None, make_config(tmp_path / "run", resume=True))
    assert history.iterations == 12
    assert_same(before, checkpoint.load(tmp_path / "run" / "last.state")["model"])


def test_a_finished_run_can_be_made_longer(data: Dataset, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config = make_config(tmp_path / "run", epochs=2, progress=True)
    fit(make_model(), data, None, config)
    assert "Going on" not in capfd.readouterr().err
    fit(make_model(), data, None, replace(config, resume=True))
    said = capfd.readouterr().err
    assert f"Going on with {tmp_path / 'run'} after iteration 6 (epoch 2, 1 s)" in said
    assert "It is at its end already: more epochs or minutes (in all) let it go on" in said
    history = fit(make_model(), data, None, replace(config, resume=True, epochs=3))
    said = capfd.readouterr().err
    assert (history.iterations, len(history.losses)) == (9, 3)
    assert "Its length was changed: length.epochs: 2 -> 3." in said
    assert "at its end" not in said


def test_a_run_without_a_saved_step_says_that_it_begins(
    data: Dataset, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fit(make_model(), data, None, make_config(tmp_path / "run", epochs=1, resume=True, progress=True))
    said = capfd.readouterr().err
    assert "Computing on cpu (" in said
    assert f"No step of {tmp_path / 'run'} was saved: it begins anew" in said


def test_a_state_of_the_version_without_sections_goes_on(data: Dataset, tmp_path: Path) -> None:
    """`earlier/last.state` was written by it after step 7 of this run, with settings that had no sections."""
    stored = checkpoint.load(EARLIER / "last.state")["model"]
    resumed = []
    for name in ("run", "again"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "last.state").write_bytes((EARLIER / "last.state").read_bytes())
        with pytest.raises(ConfigError, match=r"learning\.lr: 0\.01 -> 0\.02\. "):
            fit(make_model(), data, None, make_config(tmp_path / name, resume=True, lr=0.02))
        resumed.append(make_model())
        history = fit(resumed[-1], data, None, make_config(tmp_path / name, resume=True))
        assert (len(history.losses), history.iterations) == (5, 12)
    assert_same(resumed[0].state_dict(), resumed[1].state_dict())
    moved = max(float((value.detach() - stored[key]).abs().max()) for key, value in resumed[0].named_parameters())
    assert 0 < moved < 0.1  # five steps from the stored weights, none of them longer than the rate


def test_a_run_is_not_overwritten_or_resumed_by_another(data: Dataset, tmp_path: Path) -> None:
    config = make_config(tmp_path / "run", epochs=1)
    fit(make_model(), data, None, config)
    with pytest.raises(ConfigError, match="holds a run"):
        fit(make_model(), data, None, config)
    with pytest.raises(ConfigError, match=r"lr: 0\.01 -> 0\.02\. .*weights .*last\.safetensors and another `out`"):
        fit(make_model(), data, None, replace(config, resume=True, lr=0.02))
    with pytest.raises(ConfigError, match="annotations"):
        fit(make_model(), data.subset(range(7)), None, replace(config, resume=True))


def test_time_is_kept(data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock on which a hundredth of a second passes between two looks, however busy the machine is."""
    looks = count()
    monkeypatch.setattr("maskwright.training.run.time", SimpleNamespace(perf_counter=lambda: next(looks) / 100))
    config = make_config(tmp_path / "run", epochs=None, max_minutes=0.02, batch_size=8)
    history = fit(make_model(), data, None, config)
    assert history.stopped == "time"
    assert 1.2 <= history.seconds < 1.3
    lrs = [float(r["lr"]) for r in read(tmp_path / "run" / "log.csv")]
    assert lrs[-1] < 0.1 * max(lrs)


def test_without_images_to_measure_on_the_state_is_written_at_its_times_alone(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By such a clock. A state is as large as four times the weights: after each step it would slow the run."""
    looks = count()
    monkeypatch.setattr("maskwright.training.run.time", SimpleNamespace(perf_counter=lambda: next(looks) / 100))
    written, save = [], Run.save_state
    monkeypatch.setattr(Run, "save_state", lambda run: (written.append(run.position.iteration), save(run))[1])
    minutes = {"max_minutes": 0.02, "checkpoint_minutes": 1.0}
    history = fit(make_model(), data, None, make_config(tmp_path / "run", epochs=None, log_every=1, **minutes))
    steps = [row["iteration"] for row in history.losses]
    assert len(steps) > 10
    assert set(written) == {steps[-1]}


# ---- what goes wrong ------------------------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_names_the_term_and_the_images(data: Dataset, tmp_path: Path) -> None:
    model = make_model()
    model.bad_at = 5
    with pytest.raises(TrainingError, match=r"iteration 4 .*loss_size is nan.*: \d\.png, \d\.png, \d\.png") as caught:
        fit(model, data, data, make_config(tmp_path / "run"), evaluate=lambda *_: {"AP": 0.0})
    assert "loss_mask" not in str(caught.value)
    assert all(torch.isfinite(p).all() for p in model.parameters())
    assert checkpoint.load(tmp_path / "run" / "last.state")["position"]["iteration"] == 3


def test_a_gradient_that_is_not_finite_stops_before_the_step(data: Dataset, tmp_path: Path) -> None:
    model = make_model()
    model.layers[4].weight.register_hook(lambda g: g * math.inf)
    with pytest.raises(TrainingError, match="gradient norm"):
        fit(model, data, None, make_config(tmp_path / "run"))
    assert all(torch.isfinite(p).all() for p in model.parameters())


def full_disk() -> None:
    """Fails as torch does, which names no reason of its own."""
    try:
        raise OSError(28, "No space left on device")
    finally:
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0")


def refusal() -> None:
    raise RuntimeError("cannot pickle")


def denial() -> None:
    raise PermissionError(13, "Permission denied")


@pytest.mark.parametrize(
    ("fault", "why", "advice"),
    [
        (full_disk, "the disk is full", "Free some space"),
        (refusal, "cannot pickle", "Free some space"),
        (denial, "you have no permission to write there", "Make it possible to write there"),
    ],
)
def test_a_failed_save_leaves_the_earlier_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Callable[[], None], why: str, advice: str
) -> None:
    path = tmp_path / "last.state"
    checkpoint.save(path, {"format": 1, "x": torch.ones(3)})
    before, write = path.read_bytes(), torch.save

    def fails(content: Any, stream: Any) -> None:
        write({"x": torch.zeros(1)}, stream)
        fault()

    monkeypatch.setattr(torch, "save", fails)
    expected = rf"^The checkpoint \S*last\.state could not be written: {why}\. The earlier one .* is intact"
    with pytest.raises(TrainingError, match=expected) as caught:
        checkpoint.save(path, {"format": 1, "x": torch.zeros(3)})
    assert str(caught.value).endswith(f"{advice}, then resume.")
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["last.state"]
    path.unlink()
    with pytest.raises(TrainingError, match=rf"There is no earlier one\. {advice}, then start again\.$"):
        checkpoint.save(path, {"format": 1, "x": torch.zeros(3)})


def test_damaged_or_foreign_states_are_refused(tmp_path: Path, data: Dataset) -> None:
    fit(make_model(), data, None, make_config(tmp_path / "run", epochs=1))
    path = tmp_path / "run" / "last.state"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(TrainingError, match="damaged"):
        fit(make_model(), data, None, make_config(tmp_path / "run", epochs=1, resume=True))
    torch.save({"model": {}}, path)
    with pytest.raises(TrainingError, match="format"):
        checkpoint.load(path)
    path.write_bytes(whole)
    other = make_model()
    other.layers[4] = nn.Conv2d(8, 2, 3)
    with pytest.raises(TrainingError, match="another model"):
        fit(other, data, None, make_config(tmp_path / "run", epochs=1, resume=True))
    with pytest.raises(TrainingError, match="no training state"):
        checkpoint.load(tmp_path / "nothing.state")


@pytest.mark.parametrize(
    "bad",
    [
        {"lr": 0.0}, {"lr": math.nan}, {"batch_size": 0}, {"precision": "fp8"}, {"optimizer": "adam"}, {"ema": 1.0},
        {"val_fraction": 1.0}, {"seed": -1}, {"clip": 0}, {"epochs": 0}, {"short_edges": (0,)}, {"device": "tpu"},
        {"schedule": "linear"}, {"milestones": (0.9, 0.5)}, {"milestones": (1.5,)}, {"gamma": 2}, {"momentum": 1.0},
        {"seed": 2**63}, {"lr": math.inf}, {"nesterov": True}, {"patience": 0}, {"min_delta": -1}, {"norm": "batch"},
        {"repeats": 0},
    ],
)  # fmt: skip
def test_wrong_configs_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(bad))):
        TrainConfig(**bad)


def test_a_model_of_boxes_alone_needs_no_outlines(tmp_path: Path, data: Dataset) -> None:
    rows = {k: tuple(replace(a, segmentation=None) for a in own) for k, own in data.annotations.items()}
    boxes, model = replace(data, annotations=rows), make_model()
    with pytest.raises(DataError, match=r"no outline.*faster_rcnn"):
        Run(model, boxes, Resolved.of(make_config(tmp_path / "masks")))
    model.config = replace(model.config, masks=False)
    assert not Run(model, boxes, Resolved.of(make_config(tmp_path / "boxes"))).batches.samples.with_masks


def test_a_run_must_end_and_have_something_to_learn(tmp_path: Path, data: Dataset) -> None:
    with pytest.raises(ConfigError, match="never end"):
        TrainConfig(epochs=None)
    with pytest.raises(TrainingError, match="frozen"):
        fit(make_model().requires_grad_(False), data, None, make_config(tmp_path / "run"))


# ---- parts ----------------------------------------------------------------------------------------------------------


def test_learning_rate_rises_and_falls() -> None:
    config = LearningSettings(lr=1.0, warmup=10, lr_end=0.1)
    assert learning_rate(config, 0, 0.0) == pytest.approx(0.1)
    assert learning_rate(config, 9, 0.0) == pytest.approx(1.0)
    assert learning_rate(config, 50, 0.5) == pytest.approx(0.55)
    assert learning_rate(config, 99, 1.0) == pytest.approx(0.1)


def test_the_rate_has_risen_with_the_time_where_fewer_steps_fit_than_it_rises_in() -> None:
    config = LearningSettings(lr=1.0, warmup=50, schedule="constant")
    length = LengthSettings(epochs=None, max_minutes=5.0)
    position = Position(iteration=2, seconds=45.0, measuring=15.0, cost=15.0)  # 30 s of 300 are a tenth
    assert learning_rate(config, 2, 0.1, position.risen(length)) == 1.0
    assert learning_rate(config, 2, 0.1, replace(position, seconds=30.0).risen(length)) == pytest.approx(
        0.526, abs=0.01
    )
    assert position.risen(replace(length, epochs=9, max_minutes=None)) == 0.0
    assert learning_rate(config, 2, 0.1) == pytest.approx(3 / 50)


def test_evaluations_take_at_most_a_fifth_of_the_time() -> None:
    """A run of 10 minutes, simulated: steps of 7 s, evaluations of several lengths."""
    length = LengthSettings(epochs=None, max_minutes=10.0, evaluate_every=1)
    for cost in (2.0, 20.0, 45.0):
        position, count = Position(), 0
        position.took(cost)
        while position.seconds < position.limit(length):
            position.seconds += 7.0
            position.due = position.iteration % 10 == 9
            position.iteration += 1
            if position.seconds < position.limit(length) and position.wants_evaluation(length):
                position.took(cost)
                count += 1
        position.took(cost)  # the last one
        assert position.measuring <= 0.2 * 600
        assert position.seconds <= 600 + 7
        assert count >= (8 if cost == 2.0 else 1 if cost == 20.0 else 0)


def test_a_slow_evaluation_measures_some_of_the_images(data: Dataset, tmp_path: Path) -> None:
    """Spread over the data, in every process and after a resume the same."""
    many = Dataset(
        data.classes,
        tuple(replace(r, id=i) for i, r in enumerate(data.images * 20)),
        {i: data.of(i % 8) for i in range(160)},
        data.root,
        data.source,
    )
    settings = make_config(tmp_path / "run", epochs=None, max_minutes=1.0)
    asked: list[int] = []

    def slow(model: AnyModel, part: Dataset) -> dict[str, float]:
        asked.append(len(part))
        time.sleep(0.02 * len(part))
        return {"AP": 0.5}

    run = Run(make_model(), data, Resolved.of(settings))
    said: list[str] = []
    part = affordable(run, many, slow, said.append)
    assert f"Evaluations measure {len(part)} of the {len(many)} images" in said[0]
    assert asked == [2, 2]
    assert 8 <= len(part) < 160
    assert run.position.images == len(part)
    assert [r.id for r in part.images][:2] == [0, 160 // len(part)]
    again = affordable(run, many, slow, said.append)
    assert asked == [2, 2]
    assert [r.id for r in again.images] == [r.id for r in part.images]
    run.position.images = 0
    run.length = replace(run.length, epochs=1, max_minutes=None)
    said.clear()
    assert affordable(run, many, slow, said.append) is many
    assert not said


def test_the_start_is_measured_first_and_the_best_is_never_worse(data: Dataset, tmp_path: Path) -> None:
    values, saved = iter((0.6, 0.2, 0.3)), []
    model = make_model()
    begun = {k: v.clone() for k, v in model.state_dict().items()}
    history = fit(
        model,
        data,
        data,
        make_config(tmp_path / "run", epochs=2),
        evaluate=lambda *_: {"AP": next(values)},
        save=lambda net, path, metrics: saved.append((path.name, {k: v.clone() for k, v in net.state_dict().items()})),
        measure_first=True,
    )
    assert history.metrics[0]["iteration"] == 0
    assert (history.best, history.best_iteration) == (0.6, 0)
    assert [name for name, _ in saved] == ["best.safetensors", "last.safetensors"]
    assert all(torch.equal(value, begun[key]) for key, value in saved[0][1].items())


def test_a_run_says_what_it_measures_and_how_long_it_takes(
    data: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = make_config(tmp_path / "run", epochs=2, progress=True)
    fit(make_model(), data, data, config, evaluate=lambda *_: {"AP": 0.25}, measure_first=True)
    text = capsys.readouterr().err
    assert "Before the first step: AP 0.250; the best so far" in text
    assert re.search(r"A step takes [\d.e-]+ s: about \d+ more steps? .* done in about \d+ s", text), text
    assert re.search(r"iteration \d+ \(epoch 2\): AP 0.250; best 0.250 at iteration 0", text), text


def test_the_rate_steps_or_stays() -> None:
    config = LearningSettings(lr=1.0, warmup=10, schedule="step", milestones=(0.5, 0.75), gamma=0.1)
    rates = [learning_rate(config, 99, progress) for progress in (0.0, 0.49, 0.5, 0.74, 0.75, 1.0)]
    assert rates == pytest.approx([1.0, 1.0, 0.1, 0.1, 0.01, 0.01])
    assert learning_rate(config, 4, 0.0) == pytest.approx(0.5)
    config = replace(config, schedule="constant")
    assert [learning_rate(config, 99, progress) for progress in (0.0, 0.6, 1.0)] == [1.0, 1.0, 1.0]


def test_optimizers_are_the_ones_asked_for() -> None:
    sgd = build_optimizer(make_model(), LearningSettings(lr=0.1, optimizer="sgd", momentum=0.8, nesterov=True))
    assert isinstance(sgd, torch.optim.SGD)
    assert all((g["momentum"], g["nesterov"]) == (0.8, True) for g in sgd.param_groups)
    assert isinstance(build_optimizer(make_model(), LearningSettings(lr=0.1)), torch.optim.AdamW)


def test_frozen_statistics_stay_while_their_weights_learn(data: Dataset, tmp_path: Path) -> None:
    model = make_model()
    before = weights(model)
    fit(model, data, data, make_config(tmp_path / "frozen", norm="frozen"))
    after = weights(model)
    assert all(torch.equal(after[f"layers.1.{n}"], before[f"layers.1.{n}"]) for n in ("running_mean", "running_var"))
    assert not torch.equal(after["layers.1.weight"], before["layers.1.weight"])
    live = make_model()
    fit(live, data, data, make_config(tmp_path / "live", norm="live"))
    assert not torch.equal(live.layers[1].running_mean, before["layers.1.running_mean"])
    with pytest.raises(ConfigError, match="norms that never change"):
        fit(RCNN(rcnn.tiny()), data, None, make_config(tmp_path / "never", norm="live"))


def test_half_precision_needs_a_gpu(data: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"fp16.*CUDA.*bf16"):
        fit(make_model(), data, None, make_config(tmp_path / "run", precision="fp16"))
    assert not (tmp_path / "run").exists()


def test_a_run_without_progress_ends_and_stays_ended(data: Dataset, tmp_path: Path) -> None:
    """Best is the second; the third is better, but not by min_delta; so are the fourth and fifth."""
    values = iter([0.1, 0.5, 0.505, 0.3, 0.4, 0.9])
    config = make_config(tmp_path / "run", epochs=20, patience=3, min_delta=0.01)
    history = fit(make_model(), data, data, config, evaluate=lambda *_: {"AP": next(values)})
    assert (history.stopped, history.epochs, history.best) == ("no progress", 5, 0.505)
    again = fit(make_model(), data, data, replace(config, resume=True), evaluate=lambda *_: {"AP": next(values)})
    assert (again.stopped, again.iterations) == ("no progress", history.iterations)
    more = replace(config, resume=True, patience=4, epochs=20)
    assert fit(make_model(), data, data, more, evaluate=lambda *_: {"AP": next(values, 0.0)}).epochs == 10


def test_repeats_show_each_image_again_and_varied_anew(data: Dataset) -> None:
    sampling = Resolved.of(make_config(Path(), epochs=1, repeats=3, batch_size=8)).sampling()
    batches = list(Batches(data, SPEC, sampling).start())
    assert [sorted(b.image_ids) for b in batches] == [list(range(8))] * 3
    first = {b.keys[b.image_ids.index(3)].repeat: b.images[b.image_ids.index(3)] for b in batches}
    assert list(first) == [0, 1, 2]
    assert not any(a.shape == b.shape and torch.equal(a, b) for a, b in ((first[0], first[1]), (first[1], first[2])))


@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 5), st.integers(1, 3))
@settings(max_examples=50, deadline=None)
def test_shares_are_the_batches_cut_apart(images: int, size: int, processes: int, repeats: int) -> None:
    """In order, as even as can be, each process with as many batches as the others."""
    record = [ImageRecord(i, f"{i}.png", (9, 9)) for i in range(images)]
    rows = {i: (Annotation(i, i, 0, (0, 0, 4, 4), (np.array([0.0, 0, 4, 0, 4, 4]),), 8.0),) for i in range(images)}
    data = Dataset(Classes(["a"]), tuple(record), rows, Path(), Path("a.json"))
    sampling = Sampling(batch_size=size, epochs=2, repeats=repeats)
    whole = list(Batches(data, SPEC, sampling).keys(0, 0))
    shares = [list(Batches(data, SPEC, sampling, (i, processes)).keys(0, 0)) for i in range(processes)]
    assert [list(chain(*parts)) for parts in zip(*shares, strict=True)] == whole
    assert all(max(map(len, parts)) - min(map(len, parts)) <= 1 for parts in zip(*shares, strict=True))
    assert sum(map(len, whole)) == 2 * repeats * images


def test_norms_and_biases_do_not_decay() -> None:
    groups = build_optimizer(make_model(), LearningSettings(lr=0.1, weight_decay=0.1)).param_groups
    assert [g["weight_decay"] for g in groups] == [0.1, 0.0]
    assert all(p.ndim > 1 for p in groups[0]["params"])
    assert len(groups[1]["params"]) == 4


def test_ema_is_the_mean_it_says() -> None:
    model = make_model()
    ema = Ema(model, 0.5)
    expected = weights(model)
    for step in range(1, 30):
        with torch.no_grad():
            model.layers[0].weight.add_(1.0)
            model.layers[1].num_batches_tracked.add_(1)
        ema.update(model)
        keep = min(0.5, (1 + step) / (10 + step))
        mean = expected["layers.0.weight"]
        expected["layers.0.weight"] = keep * mean + (1 - keep) * model.layers[0].weight.detach()
    torch.testing.assert_close(ema.model.layers[0].weight, expected["layers.0.weight"])
    assert ema.model.layers[1].num_batches_tracked == 29


def test_the_model_is_shown_in_eval_mode_and_trained_in_train_mode(data: Dataset, tmp_path: Path) -> None:
    model = make_model()
    seen = []
    fit(
        model, data, data, make_config(tmp_path / "run", epochs=2, ema=None),
        evaluate=lambda shown, _: seen.append((shown is model, shown.training)) or {"AP": 0.0},
    )  # fmt: skip
    assert seen == [(True, False), (True, False)]
    assert model.training


def test_groups_never_span_two_epochs(data: Dataset, tmp_path: Path) -> None:
    run = Run(make_model(), data, Resolved.of(make_config(tmp_path / "run", accumulate=2, epochs=2)))
    sizes = []
    for group, _ in run.groups():
        assert len({b.epoch for b in group}) == 1
        sizes.append([len(b) for b in group])
        run.position.advance(len(group), len(run.batches), run.length)
    assert sizes == [[3, 3], [2], [3, 3], [2]]


# ---- from a file to a file ------------------------------------------------------------------------------------------


def small_mask_rcnn(classes: int) -> RCNN:
    """A Mask R-CNN that a test can train."""
    config = rcnn.compact(classes)
    return RCNN(
        replace(
            config, channels=16, spec=replace(config.spec, size=64),
            rpn=replace(config.rpn, train_before=100, train_after=30, before=100, after=30),
            roi=replace(config.roi, box_width=32, mask_width=16, mask_convs=1, samples=16),
        )
    )  # fmt: skip


@pytest.mark.parametrize("ema", [0.9, None])
def test_train_leaves_weights_that_load_and_predict(tmp_path: Path, ema: float | None) -> None:
    annotations = coco_fixture(tmp_path / "data", 0, images=5, size=(64, 72), objects=3, classes=2)
    config = make_config(
        tmp_path / "run", data=str(annotations), images=str(annotations.parent / "images"), epochs=2, batch_size=2,
        val_fraction=0.4, size=64, ema=ema, clip=None, optimizer="sgd", lr=1e-3,
    )  # fmt: skip
    model = small_mask_rcnn(2)
    best = train(config, model)
    assert best == tmp_path / "run" / "best.safetensors"
    assert list(read(tmp_path / "run" / "metrics.csv")[0]) == [
        "iteration", "epoch", "segm/AP", "segm/AP50", "segm/AP75", "bbox/AP", "bbox/AP50", "bbox/AP75",
    ]  # fmt: skip
    predictor = load(best)
    assert predictor.classes == coco.load(annotations, annotations.parent / "images").classes
    assert predictor.spec == model.config.spec
    assert predictor.predict(annotations.parent / "images" / "0000.png").size == (64, 72)
    last = files.read(tmp_path / "run" / "last.safetensors").tensors
    state = checkpoint.load(tmp_path / "run" / "last.state")
    assert_same(dict(state["model"] if ema is None else state["ema"]["model"]), last)


def test_weights_of_an_earlier_run_are_not_taken_for_the_best(tmp_path: Path) -> None:
    annotations, out = (
        coco_fixture(tmp_path / "data", 0, images=5, size=(64, 72), objects=3, classes=2),
        tmp_path / "run",
    )
    out.mkdir()
    (out / "best.safetensors").write_bytes(b"of an earlier run")
    config = make_config(
        out, data=str(annotations), images=str(annotations.parent / "images"), epochs=1, batch_size=2, val_fraction=0.0,
        size=64, report=False,
    )  # fmt: skip
    assert train(config, small_mask_rcnn(2)) == out / "last.safetensors"


def test_boxes_alone_have_a_validation_loss_too(tmp_path: Path) -> None:
    path = coco_fixture(tmp_path / "data", 0, images=3, size=(64, 72), objects=3, classes=2)
    data = coco.load(path, path.parent / "images")
    rows = {k: tuple(replace(a, segmentation=None) for a in own) for k, own in data.annotations.items()}
    model = RCNN(replace(rcnn.tiny("compact", 2), masks=False))
    losses = mean_losses(model, replace(data, annotations=rows))
    assert "mask" not in losses
    assert all(map(math.isfinite, losses.values()))


def test_train_names_missing_images(tmp_path: Path) -> None:
    annotations = coco_fixture(tmp_path / "data", 0, images=5, size=(40, 40))
    (annotations.parent / "images" / "0002.png").unlink()
    config = make_config(tmp_path / "run", data=str(annotations), images=str(annotations.parent / "images"))
    with pytest.raises(DataError, match=r"1 of 5 image files are missing: .*0002\.png"):
        train(config, small_mask_rcnn(3))
    assert not (tmp_path / "run").exists()


def test_a_run_can_begin_with_the_weights_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    annotations = coco_fixture(tmp_path / "data", 0, images=4, size=(64, 72), objects=3, classes=2)
    small = lambda config: small_mask_rcnn(config.num_classes)  # noqa: E731
    monkeypatch.setattr("maskwright.training.network.build_config", small)
    given = {"data": str(annotations), "images": str(annotations.parent / "images"), "epochs": 1, "val_fraction": 0.0}
    train(make_config(tmp_path / "first", ema=None, model="mask_rcnn_small", **given))
    first = tmp_path / "first" / "last.safetensors"
    still = make_config(
        tmp_path / "second", ema=None, model="mask_rcnn_small", weights=str(first), lr=1e-12, warmup=0, **given
    )
    train(still)
    one, two = (files.read(p).tensors for p in (first, tmp_path / "second" / "last.safetensors"))
    torch.testing.assert_close(one["mask_head.logits.weight"], two["mask_head.logits.weight"], rtol=0, atol=1e-6)


def test_frozen_norms_are_not_trained_from_random_weights(tmp_path: Path) -> None:
    annotations = coco_fixture(tmp_path / "data", 0, images=3, size=(40, 40))
    images = str(annotations.parent / "images")
    with pytest.raises(ConfigError, match=r"mask_rcnn_r50_fpn.*frozen norms.*mask_rcnn_small"):
        train(make_config(tmp_path / "run", data=str(annotations), images=images, model="mask_rcnn_r50_fpn"))
