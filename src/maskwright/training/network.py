"""The network that a training run begins with: its architecture, fitted to the data, and its first weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, Literal

import torch

from maskwright.codec import UNSET, FieldError, Section, filled, is_unset, open_field
from maskwright.data.dataset import Dataset
from maskwright.errors import ConfigError, WeightsError, suggest
from maskwright.models import zoo
from maskwright.models.base import AnyModel, Config
from maskwright.models.family import build as build_config
from maskwright.models.family import family_of
from maskwright.samples.inputs import scaled_spec
from maskwright.types import Classes, FitMode, InputSpec, Intensity
from maskwright.weights import pretrained
from maskwright.weights.class_rows import class_count
from maskwright.weights.files import WeightsFile, names_file, read
from maskwright.weights.keyrules import Converted
from maskwright.weights.load import converted
from maskwright.weights.transfer import BODY, Transfer, transfer

SAME_COLOURS = 0.05
"""Share of the deviation by which the colours of two networks' inputs may differ."""

Trained = Literal["nothing", "backbone", "network"]
"""How much of the network begins with trained weights."""


DEFAULT_MODEL = "mask_rcnn_small"
"""A light network that is trained from random weights."""


@dataclass(frozen=True)
class NetworkSettings(Section):
    """The network, how images become its input, and what it reports once trained.

    model: zoo name. weights: checkpoint or zoo name to begin with, of any classes; of another family the backbone is
    taken. None begins with random weights. backbone_weights: where there are no `weights`, what the backbone begins
    with: "package", "timm" (published there, from the hub), a file of timm or torchvision, or "none"; "auto" leaves it
    open, see `chosen_backbone`. size: input short edge, or side of the square. fit, max_size, shrink,
    enlarge: as in `InputSpec`. intensity: how images with more than 8 bits become 0..255, as text (`types.Intensity`);
    "auto" leaves it open. anchors: sides in input pixels, one for each level (C4: all of its one level).
    rename: classes of the `weights` that are classes of the data under another name, as "OLD=NEW", so
    that their part of the heads is kept; a head of one class is kept for data of one class without it.
    score_threshold, max_instances: what the trained model reports unless asked otherwise.
    None keeps what the model has.
    """

    model: str = open_field(DEFAULT_MODEL)
    weights: str | None = None
    backbone_weights: str = open_field("none")
    size: int | None = open_field(None, low=1)
    fit: FitMode | None = None
    max_size: int | None = open_field(None, low=1)
    shrink: bool | None = open_field(None)
    enlarge: float | None = open_field(None, low=1)
    intensity: str | None = open_field(None)
    anchors: tuple[float, ...] | None = open_field(None)
    rename: tuple[str, ...] = ()
    score_threshold: float | None = open_field(None, low=0, high=1)
    max_instances: int | None = open_field(None, low=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("intensity", "backbone_weights"):
            if getattr(self, name) == "auto":
                object.__setattr__(self, name, UNSET)
        if isinstance(self.intensity, str):
            try:
                Intensity.parse(self.intensity)
            except ConfigError as error:
                raise FieldError(str(error), ("intensity",)) from None
        sides = self.anchors
        if sides is not None and not is_unset(sides) and not (sides and all(side > 0 for side in sides)):
            raise FieldError(f"anchors are positive pixels, at least one, got {sides}.", ("anchors",))


@dataclass(frozen=True, eq=False)
class Start:
    """The architecture and the first weights of a run, before its config is adapted to the data.

    architecture: its name in checkpoints. config: the network as it was published or trained.
    source, weights, classes: the first weights, the file they are from and the classes they are for (None: not said);
    without weights the run begins with random ones. backbone_only: the weights are of another family or of an image
    classifier, so that the heads begin anew. backbone: what `backbone_weights` stands for, and why. built: the model
    exists already, its config is not adapted.
    """

    architecture: str
    config: Config
    source: str = ""
    weights: Converted | None = None
    classes: Classes | None = None
    backbone_only: bool = False
    backbone: tuple[str, str] = ("none", "")
    built: bool = False

    @property
    def trained(self) -> Trained:
        """How much of the network begins with trained weights."""
        return "nothing" if self.weights is None else "backbone" if self.backbone_only else "network"


def find_start(settings: NetworkSettings, default: str = DEFAULT_MODEL) -> Start:
    """Find the architecture and the first weights that `model` and `weights` name.

    weights: a file, or a zoo name whose published weights are fetched. Our own checkpoints describe their network:
    it is taken as it is unless another architecture is named. default: the model where neither is chosen.
    `fit` changes how images become its input.
    Raises ConfigError, WeightsError, DownloadError.
    """
    found = _named(None if is_unset(settings.model) else settings.model, settings.weights, default)
    found = _with_backbone(found, settings)
    if settings.fit is None:
        return found
    return replace(found, config=replace(found.config, spec=found.config.spec.fitted_by(settings.fit)))


def _named(given: str | None, weights: str | None, default: str) -> Start:
    if weights is None and given is not None and zoo.resolve(given).inside:
        weights, given = given, None  # exists only as a checkpoint, which says of which network it is
    if weights is None:
        return Start(given or default, zoo.config_of(zoo.resolve(given or default)))
    named = None if names_file(weights) else zoo.resolve(weights)
    file = read(weights if named is None else named.path())
    if file.header is not None:
        return _from_ours(file, file.header, given)
    if given is None and named is None:
        raise ConfigError(
            f"{file.path} holds weights but does not say of which network. Name its model too; `maskwright models` "
            "lists the names.",
            options=("model",),
        )
    entry = named if given is None and named is not None else zoo.resolve(str(given))
    return _from_published(file, named or entry, entry)


def _from_published(file: WeightsFile, theirs: zoo.Entry, entry: zoo.Entry) -> Start:
    """The network of `entry` with the weights of `theirs`, the same or, for its backbone, one of another family."""
    own, before = zoo.config_of(entry), zoo.config_of(theirs)
    backbone_only = _of_another_family(file, (theirs.name, before), (entry.name, own))
    theirs = theirs if backbone_only else entry
    found = converted(file, zoo.known(), theirs.publisher)
    count = class_count(found.shapes, family_of(before).class_rows)
    published = theirs.classes if count == len(theirs.classes) else None
    return Start(entry.name, own, str(file.path), found, published, backbone_only=backbone_only)


def _of_another_family(file: WeightsFile, source: tuple[str, Config], target: tuple[str, Config]) -> bool:
    """Whether two networks, name and config, are of different families, so that only the backbone can be taken.

    Raises WeightsError where a backbone that learnt from the inputs of `source` would see others in `target`.
    """
    (their_name, theirs), (own_name, own) = source, target
    if type(theirs) is type(own):
        return False
    a, b = theirs.spec, own.spec
    moved = max(abs(x - y) / std for std, x, y in zip(a.std, a.mean, b.mean, strict=True))
    stretched = max(abs(x / y - 1) for x, y in zip(a.std, b.std, strict=True))
    differences = []
    if a.channels != b.channels:
        differences.append(f"channels {a.channels}, not {b.channels}")
    if max(moved, stretched) > SAME_COLOURS:
        differences.append(f"mean {a.mean} and deviation {a.std}, not {b.mean} and {b.std}")
    if theirs.strides_early != own.strides_early:
        differences.append("strides in other convolutions")
    if differences:
        raise WeightsError(
            f"{file.path} ('{their_name}') has a backbone that '{own_name}' cannot begin with, it learnt otherwise: "
            f"{'; '.join(differences)}. Choose weights of '{own_name}' itself, or train without weights.",
            options=("weights",),
        )
    return True


def _from_ours(file: WeightsFile, header: Mapping[str, Any], given: str | None) -> Start:
    before, classes = zoo.network_of(header, file.path, file.tensors)
    theirs = own = str(header["architecture"]), before
    if given is not None and zoo.full_name(given) != zoo.full_name(theirs[0]):
        own = given, zoo.config_of(zoo.resolve(given))
    backbone_only = _of_another_family(file, theirs, own)
    return Start(*own, str(file.path), Converted(file.tensors), classes, backbone_only=backbone_only)


# ---- the weights of a backbone alone ---------------------------------------------------------------------------------


def chosen_backbone(start: Start) -> tuple[str, str]:
    """What `backbone_weights` means where it is left open, and why.

    Without weights of the network itself, a network over a backbone that was named begins with those that a package
    carries or, where none does, with those that timm publishes. Others are made to learn from random weights.
    """
    name = start.config.backbone
    if start.weights is not None or not zoo.over_backbone(start.architecture):
        return "none", ""
    if pretrained.has_package(name):
        return "package", f"ImageNet weights of '{name}' that {pretrained.PACKAGE} carries"
    if pretrained.is_published(name):
        return "timm", f"the weights that timm publishes for '{name}'"
    return "none", f"timm publishes no weights for '{name}'"


def _with_backbone(start: Start, settings: NetworkSettings) -> Start:
    """The start with the weights of its backbone, whose mean and deviation become the input's."""
    is_open = is_unset(settings.backbone_weights)
    kind, why = chosen_backbone(start) if is_open else (settings.backbone_weights, "")
    if kind == "none":
        return replace(start, backbone=(kind, why))
    if start.weights is not None:
        raise ConfigError(
            f"The weights {start.source} hold a backbone already: give either weights or backbone weights.",
            options=("weights", "backbone_weights"),
        )
    if start.config.strides_early:
        raise WeightsError(
            f"'{start.architecture}' has the strides of its backbone in other convolutions than ImageNet's weights. "
            f"Choose one over a backbone: {' or '.join(zoo.over(start.config.backbone))}.",
            options=("model",),
        )
    name = start.config.backbone
    if kind in ("package", "timm"):
        found = pretrained.of_package(name) if kind == "package" else pretrained.of_timm(name)
    else:
        found = pretrained.of_file(name, kind)
    spec = replace(start.config.spec, channels="RGB", mean=found.mean, std=found.std)
    return replace(
        start,
        config=replace(start.config, spec=spec),
        source=found.source,
        weights=Converted({f"{BODY}{key}": value for key, value in found.state.items()}),
        backbone_only=True,
        backbone=(kind, why),
    )


# ---- adapted to the data --------------------------------------------------------------------------------------------


def fitted(base: Config, settings: NetworkSettings) -> Config:
    """The architecture's config with the input, anchors and output of the settings."""
    settings = filled(settings)
    spec, output = input_spec(base.spec, settings), base.output
    if settings.anchors is not None:
        base = base.with_anchor_sides(tuple(float(side) for side in settings.anchors))
    if settings.score_threshold is not None:
        output = replace(output, score_threshold=settings.score_threshold)
    if settings.max_instances is not None:
        output = replace(output, max_instances=settings.max_instances)
    base = base.with_limits(settings.score_threshold, settings.max_instances)
    return replace(base, spec=spec, output=output)


def input_spec(spec: InputSpec, settings: NetworkSettings) -> InputSpec:
    """The spec with the fields that the settings give; another size moves the limit of the long edge in proportion."""
    settings = filled(settings)
    if settings.size is not None:
        spec = scaled_spec(spec, settings.size)
    given = {k: getattr(settings, k) for k in ("max_size", "shrink", "enlarge")}
    given["intensity"] = None if settings.intensity is None else Intensity.parse(settings.intensity)
    return replace(spec, **{k: v for k, v in given.items() if v is not None})


def least_stuff(data: Dataset) -> int:
    """Pixels of an image that a kind of stuff needs to become a segment: detectron2's 4096 in images of COCO's size
    (640 x 480), in smaller ones the same share."""
    pixels = [height * width for height, width in (record.size for record in data.images)]
    return min(4096, round(4096 / (640 * 480) * median(pixels))) if pixels else 4096


def build(
    settings: NetworkSettings, classes: Classes, start: Start, seed: int = 0, data: Dataset | None = None
) -> tuple[AnyModel, Transfer | None]:
    """The model a run begins with, its random weights drawn from the seed, and what was taken of other weights.

    data: gives a semantic branch its classes; None: it keeps those it has.
    Raises ConfigError for frozen norms without weights, WeightsError where the weights are of another network.
    """
    if start.config.norm == "frozen" and start.weights is None:
        raise ConfigError(
            f"'{start.architecture}' has frozen norms, which only fit its published weights; from random weights it "
            f"would learn next to nothing. Begin with weights: {start.architecture}, or a file; with weights of its "
            f"backbone; or train "
            f"{family_of(start.config).untrained}.",
            options=("weights", "backbone_weights", "model"),
        )
    with torch.random.fork_rng([]):  # built on the processor
        torch.default_generator.manual_seed(seed)
        config = start.config.for_classes(classes)
        if data is not None:
            config = config.for_semantic(data.semantic_classes, least_stuff(data))
        model = build_config(fitted(config, settings))
    theirs = renamed(start, settings.rename, classes)
    if start.weights is None:
        return model, None
    table = family_of(start.config).class_rows
    moved = transfer(model, start.weights, start.source, classes, theirs, table)
    pairs = zip(start.classes or (), theirs or (), strict=True)
    return model, replace(moved, renamed=tuple((old, new) for old, new in pairs if old != new))


def renamed(start: Start, rename: Sequence[str], own: Classes) -> Classes | None:
    """The classes of the weights under the names that they have in the data; None where they are not known.

    Raises ConfigError for a name that the weights or the data do not have.
    """
    theirs, option = start.classes, ("rename",)
    if not rename:
        lone = theirs is not None and len(theirs) == len(own) == 1 and not start.backbone_only
        return own if lone else theirs
    if theirs is None or start.weights is None:
        raise ConfigError(
            "rename is of classes of the weights, which are not given or do not name any.", options=option
        )
    names = list(theirs.names)
    for text in rename:
        old, is_pair, new = (part.strip() for part in text.partition("="))
        if not is_pair or not old or not new:
            raise ConfigError(f"A class is renamed by OLD=NEW, as nucleus=mushroom, got '{text}'.", options=option)
        if old not in theirs.names:
            raise ConfigError(f"{start.source} has no class '{old}'.{suggest(old, theirs.names)}", options=option)
        if new not in own.names:
            raise ConfigError(f"The data has no class '{new}'.{suggest(new, own.names)}", options=option)
        names[theirs.names.index(old)] = new
    return Classes(names, theirs.ids, theirs.landmarks if any(theirs.landmarks) else None)
