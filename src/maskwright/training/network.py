"""The network that a training run begins with: its architecture, fitted to the data, and its first weights."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from maskwright.errors import ConfigError, WeightsError
from maskwright.models import zoo
from maskwright.models.base import Model
from maskwright.models.families import family_of
from maskwright.samples.loader import scaled_spec
from maskwright.training.config import TrainConfig
from maskwright.training.undecided import Undecided
from maskwright.types import Classes, InputSpec
from maskwright.weights.class_rows import class_count
from maskwright.weights.files import WeightsFile, names_file, read
from maskwright.weights.keymaps import Converted
from maskwright.weights.load import converted
from maskwright.weights.transfer import Transfer, transfer

SAME_COLOURS = 0.05
"""Share of the deviation by which the colours of two networks' inputs may differ."""


@dataclass(frozen=True, eq=False)
class Origin:
    """Where a run's network comes from, before anything is fitted to the data.

    architecture: its name in checkpoints. kind, config: the network as it was published or trained.
    source, weights, classes: the first weights, the file they are from and the classes they are for (None: not said);
    without weights the run begins with random ones. body_only: the weights are of another family, so that the heads
    begin anew. built: the model is there already, nothing is fitted.
    """

    architecture: str
    kind: type[Model]
    config: Any
    source: str = ""
    weights: Converted | None = None
    classes: Classes | None = None
    body_only: bool = False
    built: bool = False


def origin(config: TrainConfig) -> Origin:
    """Find the architecture and the first weights that `config.model` and `config.weights` name.

    weights: a file, or a zoo name whose published weights are fetched. Our own checkpoints describe their network:
    it is taken as it is unless another architecture is named.
    Its input is fitted as `config` says.
    Raises ConfigError, WeightsError, DownloadError.
    """
    found = _named(config)
    if config.fit is None:
        return found
    return replace(found, config=replace(found.config, spec=found.config.spec.fitted_by(config.fit)))


def _named(config: TrainConfig) -> Origin:
    given = None if isinstance(config.model, Undecided) else config.model
    weights = config.weights
    if weights is None and given is not None and zoo.resolve(given).inside:
        weights, given = given, None  # exists only as a checkpoint, which says of which network it is
    if weights is None:
        own = _config_of(zoo.resolve(config.model))
        return Origin(str(config.model), family_of(own).model, own)
    named = None if names_file(weights) else zoo.resolve(weights)
    file = read(weights if named is None else named.path())
    if file.header is not None:
        return _from_ours(file, file.header, given)
    if given is None and named is None:
        raise ConfigError(
            f"{file.path} holds weights but does not say of which network. Name it too (--model); `maskwright models` "
            "lists the names."
        )
    entry = named if given is None and named is not None else zoo.resolve(str(given))
    return _from_published(file, named or entry, entry)


def _from_published(file: WeightsFile, theirs: zoo.Entry, entry: zoo.Entry) -> Origin:
    """The network of `entry` with the weights of `theirs`, the same or, for its backbone, one of another family."""
    own = _config_of(entry)
    body_only = family_of(_config_of(theirs)) is not family_of(own)
    if body_only:
        _check_same_images(str(file.path), theirs.name, theirs.config, entry.name, own)
    else:
        theirs = entry
    found = converted(file, zoo.candidates(), theirs.publisher)
    published = theirs.classes if class_count(found.state) == len(theirs.classes) else None
    return Origin(entry.name, family_of(own).model, own, str(file.path), found, published, body_only=body_only)


def _check_same_images(source: str, their_name: str, theirs: Any, own_name: str, own: Any) -> None:
    """Raises WeightsError where a backbone that learnt from the inputs of `theirs` would see others in `own`."""
    a, b = theirs.spec, own.spec
    moved = max(abs(x - y) / std for std, x, y in zip(a.std, a.mean, b.mean, strict=True))
    stretched = max(abs(x / y - 1) for x, y in zip(a.std, b.std, strict=True))
    odd = []
    if a.channels != b.channels:
        odd.append(f"channels {a.channels}, not {b.channels}")
    if max(moved, stretched) > SAME_COLOURS:
        odd.append(f"mean {a.mean} and deviation {a.std}, not {b.mean} and {b.std}")
    if getattr(theirs, "stride_in_1x1", False) != getattr(own, "stride_in_1x1", False):
        odd.append("strides in other convolutions")
    if odd:
        raise WeightsError(
            f"{source} ('{their_name}') has a backbone that '{own_name}' cannot begin with, it learnt otherwise: "
            f"{'; '.join(odd)}. Choose weights of '{own_name}' itself, or train without --weights."
        )


def _config_of(entry: zoo.Entry) -> Any:
    if entry.config is None:
        entry.build()  # says why it cannot be built
    return entry.config


def _from_ours(file: WeightsFile, header: Mapping[str, Any], given: str | None) -> Origin:
    kind, own, classes = zoo.network_of(header, file.path)
    architecture, theirs, before = str(header["architecture"]), kind, own
    if given is not None and zoo.full_name(given) != zoo.full_name(architecture):
        own = _config_of(zoo.resolve(given))
        architecture, kind = given, family_of(own).model
    if kind is not theirs:
        _check_same_images(str(file.path), str(header["architecture"]), before, architecture, own)
    found = Converted(file.tensors)
    return Origin(architecture, kind, own, str(file.path), found, classes, body_only=kind is not theirs)


def fitted(base: Any, config: TrainConfig, classes: int) -> Any:
    """The architecture's config with what `config` says of input, anchors and output, for so many classes."""
    family, spec, output = family_of(base), input_spec(base.spec, config), base.output
    if config.anchors is not None:
        base = family.with_anchors(base, tuple(float(side) for side in config.anchors))
    if config.score_threshold is not None:
        output = replace(output, score_threshold=config.score_threshold)
    if config.max_instances is not None:
        output = replace(output, max_instances=config.max_instances)
    base = family.with_rows(base, config.score_threshold, config.max_instances)
    return replace(base, num_classes=classes, spec=spec, output=output)


def input_spec(spec: InputSpec, config: TrainConfig) -> InputSpec:
    """The spec with the fields that `config` gives; another size moves the limit of the long edge in proportion."""
    if config.size is not None:
        spec = scaled_spec(spec, config.size)
    given = {k: getattr(config, k) for k in ("max_size", "shrink", "enlarge")}
    return replace(spec, **{k: v for k, v in given.items() if v is not None})


def build(config: TrainConfig, classes: Classes, start: Origin) -> tuple[Model, Transfer | None]:
    """The model a run begins with, its random weights drawn from the run's seed, and what was taken of other weights.

    Raises ConfigError for frozen norms without weights, WeightsError where the weights are of another network.
    """
    if start.config.norm == "frozen" and start.weights is None:
        raise ConfigError(
            f"'{config.model}' has frozen norms, which only fit its published weights; from random weights it would "
            f"learn next to nothing. Begin with them (--weights {start.architecture}, or a file), or train "
            f"{family_of(start.config).untrained}."
        )
    with torch.random.fork_rng([]):  # built on the processor
        torch.default_generator.manual_seed(config.seed)
        model = start.kind(fitted(start.config, config, len(classes)))
    if start.weights is None:
        return model, None
    return model, transfer(model, start.weights, start.source, classes, start.classes)
