"""YOLACT's and YOLACT++'s training step against the recorded ones: who answers for what, every loss, every gradient.

Two images, eight objects. Variants: `crowd` has a ninth that is a crowd, `nocrowd` leaves it out. No image has
more foreground priors than masks are compared, so nothing is random. The single operations of `units` besides.

Limits. Losses: 1e-4 of the value. Gradient norms: 5e-3 of the value, where the official code itself shows 5e-4 between
two ways of computing its convolutions.
"""

from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.golden.compare import assert_values
from tests.golden.recorded import Extract
from tests.golden.yolact_recorded import CONFIGS, SIZE, steps, unpacked, write_checkpoint
from torch import Tensor

from maskwright.models import zoo
from maskwright.models.yolact import Yolact
from maskwright.models.yolact import loss as yolact_loss
from maskwright.models.yolact.keys import from_yolact
from maskwright.models.yolact.loss import LossConfig, Outputs, SampledPriors, Truth
from maskwright.ops import boxes as box_ops
from maskwright.ops.losses import Term
from maskwright.ops.matching import BACKGROUND, IGNORED
from maskwright.ops.prior_matching import leave_out_crowds, match_priors
from maskwright.ops.warp import pad_batch, resize_normalise
from maskwright.types import Masks, Target
from maskwright.weights.load import load_file

pytestmark = pytest.mark.golden

CASES = [(name, variant) for name in ("yolact_resnet50", "yolact_plus_resnet50") for variant in ("crowd", "nocrowd")]
WHOLE = [case for case in CASES if case[1] == "crowd"]
"""Where gradients are looked at; it takes long, and only the class loss differs between the variants."""
EARLY = ("backbone.conv1", "backbone.layers.0.", "backbone.layers.1.")
"""Layers that are left out where convolutions are deformable: half of the time, and later layers show the same."""
TERMS = {"B": "box", "C": "class", "M": "mask", "S": "semantic", "I": "mask_iou"}
LOSS, GRADIENT = 1e-4, 5e-3


class Step:
    """A model, the two recorded images and what the network says of them."""

    def __init__(self, name: str, path: Path) -> None:
        self.golden, images = Extract(f"train_{name}"), Extract(name)
        self.model = Yolact(CONFIGS[name]()).eval()
        load_file(self.model, path, zoo.known())
        self.names = _own_names(images.meta["spec"])
        spec = self.model.config.spec
        self.images = pad_batch([resize_normalise(images.image(i), spec) for i in "01"], spec.multiple)

    def __getitem__(self, key: str) -> NDArray[Any]:
        return self.golden[key]

    @cached_property
    def outputs(self) -> Outputs:
        model = self.model
        features = model.features(self.images)
        return Outputs(
            model.head(features),
            model.protonet(features[0]),
            model.semantic(features[0]),
            model.priors(features, (SIZE, SIZE)),
            (SIZE, SIZE),
        )

    def targets(self, variant: str) -> list[Target]:
        out = []
        for i in (0, 1):
            count = int(self[f"{variant}_n_objects"][i])
            rows = torch.from_numpy(self[f"target{i}"][:count])
            labels = rows[:, 4].long()
            masks = Masks.from_dense(unpacked(self.golden.arrays, f"gtmask{i}")[:count])
            out.append(Target(rows[:, :4] * SIZE, labels.clamp(min=0), masks, labels < 0))
        return out

    def terms(self, variant: str) -> dict[str, Term]:
        model = self.model
        return yolact_loss.terms(self.outputs, self.targets(variant), model.config.loss, [None, None], model.scorer)

    def matched(self, variant: str) -> tuple[Truth, Tensor]:
        truth = Truth.of(self.targets(variant), self.outputs)
        return truth, yolact_loss.match(truth, self.outputs.priors, self.model.config.loss)


def _own_names(spec: list[Any]) -> dict[str, str]:
    """Published names to ours: each tensor is filled with its number and looked for."""
    marked = {name: torch.full(shape, i, dtype=torch.float32) for i, (name, shape, _) in enumerate(spec)}
    names = list(marked)
    return {names[int(value.flatten()[0])]: own for own, value in from_yolact(marked).state.items()}


@pytest.fixture(scope="module")
def steps_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Step]]:
    """Gives the step of a model; keeps the last one."""
    kept: dict[str, Step] = {}

    def step(name: str) -> Step:
        if name not in kept:
            kept.clear()
            path = write_checkpoint(Extract(name), tmp_path_factory.mktemp("yolact"))
            kept[name] = Step(name, path)
            path.unlink()
        return kept[name]

    yield step
    kept.clear()


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def case(request: pytest.FixtureRequest, steps_of: Callable[[str], Step]) -> tuple[Step, str]:
    name, variant = request.param
    return steps_of(name), variant


def test_what_the_network_says(case: tuple[Step, str]) -> None:
    step, _ = case
    stats = dict(zip(step["stat_names"].tolist(), step["stat_values"], strict=True))
    for i in (0, 1):
        for name, own, kind in (
            ("in", step.images[i], "in"),
            ("conf_logits", step.outputs.raw.logits[i].roll(1, dims=1), "conf"),
            ("segm", step.outputs.semantic[i], "map"),
        ):
            strides = zip(steps(kind, tuple(own.shape)), step.golden.meta["thinner"][f"{name}{i}"], strict=True)
            cut = own[tuple(slice(None, None, s * t) for s, t in strides)]
            assert_values(cut, step[f"{name}{i}"], stats[f"{name}{i}"][1], f"{name}{i}")


def test_who_answers_for_what(case: tuple[Step, str]) -> None:
    step, variant = case
    truth, matches = step.matched(variant)
    named = torch.where(matches >= 0, truth.labels[matches.clamp(min=0)] + 1, (matches == BACKGROUND).long() - 1)
    assert np.array_equal(named.numpy(), step[f"{variant}_conf_t"])
    sampled = SampledPriors.draw(matches, truth, 100, [None, None])
    assert np.array_equal(torch.stack([sampled.image, sampled.prior], 1).numpy(), step[f"{variant}_pos_index"])
    first = torch.tensor(truth.first)[sampled.image]
    assert np.array_equal((sampled.object - first).numpy(), step[f"{variant}_pos_gt"])
    assert sampled.image.bincount().tolist() == step[f"{variant}_num_pos"].tolist()
    priors = step.outputs.priors[sampled.prior]
    offsets = box_ops.encode(truth.boxes[sampled.object], priors, yolact_loss.BOX_WEIGHTS)
    assert np.abs(offsets.numpy() - step[f"{variant}_pos_loc_t"]).max() < 1e-4
    assert len(sampled.drawn) == len(sampled.prior)
    assert bool((sampled.scale == 1).all())


def test_losses(case: tuple[Step, str]) -> None:
    step, variant = case
    found = step.terms(variant)
    recorded = dict(zip(step[f"{variant}_loss_names"].tolist(), step[f"{variant}_loss_values"].tolist(), strict=True))
    assert {TERMS[name] for name in recorded} == found.keys()
    values = {name: term.mean().item() for name, term in found.items()}
    assert values == pytest.approx({TERMS[name]: value for name, value in recorded.items()}, rel=LOSS)


def test_how_many_rows_each_loss_sees(case: tuple[Step, str]) -> None:
    """By the gradient of the class loss, and by the masks the scorer is asked for."""
    step, variant = case
    seen: list[int] = []
    scorer = step.model.scorer
    hook = scorer.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0]))) if scorer else None
    logits = step.outputs.raw.logits
    (gradient,) = torch.autograd.grad(step.terms(variant)["class"].total, logits, retain_graph=True)
    if hook is not None:
        hook.remove()
        assert seen == step[f"{variant}_maskiou_rows"].tolist()
    rows, positive = step[f"{variant}_ce_rows"].tolist()
    assert int(gradient.any(dim=2).sum()) == rows
    assert step.terms(variant)["class"].count == positive


@pytest.mark.parametrize("case", WHOLE, indirect=True, ids="-".join)
def test_gradients_of_single_terms(case: tuple[Step, str]) -> None:
    """In the layers that give the answers; those before them are part of the whole gradient."""
    step, variant = case
    published = step[f"{variant}_grad_term_params"].tolist()
    near = [n for n in published if not n.startswith(("backbone", "fpn"))]
    parameters = [step.model.get_parameter(step.names[n]) for n in near]
    found = step.terms(variant)
    for letter, recorded in zip(step[f"{variant}_loss_names"].tolist(), step[f"{variant}_grad_term_l2"], strict=True):
        gradients = torch.autograd.grad(found[TERMS[letter]].mean(), parameters, retain_graph=True, allow_unused=True)
        norms = [0.0 if g is None else g.double().norm().item() for g in gradients]
        wanted = [recorded[published.index(n)] for n in near]
        assert norms == pytest.approx(wanted, rel=GRADIENT, abs=1e-6), letter


@pytest.mark.parametrize("case", WHOLE, indirect=True, ids="-".join)
def test_gradients(case: tuple[Step, str]) -> None:
    step, variant = case
    recorded = dict(zip(step[f"{variant}_grad_names"].tolist(), step[f"{variant}_grad_l2"].tolist(), strict=True))
    if step.model.config.deformable:
        recorded = {name: norm for name, norm in recorded.items() if not name.startswith(EARLY)}
    parameters = [step.model.get_parameter(step.names[name]) for name in recorded]
    total = torch.stack([term.mean() for term in step.terms(variant).values()]).sum()
    gradients = torch.autograd.grad(total, parameters, retain_graph=True)
    norms = {name: g.double().norm().item() for name, g in zip(recorded, gradients, strict=True)}
    assert norms == pytest.approx(recorded, rel=GRADIENT)


# ---- single operations ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def units(shared: Path) -> Any:
    with np.load(shared / "golden" / "yolact" / "units" / "units.npz") as arrays:
        return dict(arrays)


@pytest.mark.parametrize("crowd", [False, True])
def test_matching(units: Any, crowd: bool) -> None:
    """In the recorded fractions of the input: two of the objects overlap a prior equally, and rounding decides.

    Of priors that answer for nothing the recorded object is the one they overlap most; ours name none.
    """
    case = "matchcrowd" if crowd else "match"
    centre, side = torch.from_numpy(units["match_priors"]).chunk(2, dim=1)
    priors, truth = torch.cat([centre - side / 2, centre + side / 2], 1), torch.from_numpy(units["match_gt"])
    matches = match_priors(truth, priors, low=0.4, high=0.5)
    if crowd:
        matches = leave_out_crowds(matches, priors, torch.from_numpy(units["match_crowd"]), 0.7)
    labels = torch.from_numpy(units["match_labels"])
    named = torch.where(matches >= 0, labels[matches.clamp(min=0)] + 1, (matches == BACKGROUND).long() - 1)
    assert np.array_equal(named.numpy(), units[f"{case}_conf_t"])
    positive = matches >= 0
    assert np.array_equal(matches[positive].numpy(), units[f"{case}_idx_t"][positive.numpy()])
    offsets = box_ops.encode(truth[matches[positive]], priors[positive], yolact_loss.BOX_WEIGHTS)
    assert np.abs(offsets.numpy() - units[f"{case}_loc_t"][positive.numpy()]).max() < 1e-3


def test_hard_negatives(units: Any) -> None:
    logits = torch.from_numpy(units["ohem_logits"]).roll(-1, dims=2)
    named = torch.from_numpy(units["ohem_conf_t"])
    matches = torch.where(named > 0, named - 1, torch.where(named == 0, BACKGROUND, IGNORED))
    labels = torch.arange(6)
    found = yolact_loss.class_sum(logits, matches, labels, LossConfig().negatives)
    assert found.item() == pytest.approx(units["ohem_loss_sum"][0], rel=1e-5)
