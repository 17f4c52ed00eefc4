"""Every model by name: its config, its published weights, their source and AP.

A name is `architecture` or, where two publishers trained the architecture, `architecture.publisher`; the bare name
then means `DEFAULT_PUBLISHER`'s. `mask_rcnn_fpn.BACKBONE` and `yolact.BACKBONE` take a timm backbone:
`mask_rcnn_fpn.convnext_tiny`. The rows are in each family's `zoo`.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from maskwright.codec import decode, encode
from maskwright.errors import ConfigError, MaskwrightError, WeightsError, suggest
from maskwright.models.base import AnyModel, Config
from maskwright.models.entry import Entry as Entry
from maskwright.models.entry import Published as Published
from maskwright.models.family import FAMILIES, family_name
from maskwright.models.family import build as build_config
from maskwright.types import Classes, Landmarks
from maskwright.weights.load import Known, Shapes, check_fits, shapes_of

_LONGEST = 1000  # characters of a reason

DEFAULT_PUBLISHER = "detectron2"
"""Whose weights a bare name means where there are two: the ones with the higher published AP."""

ENTRIES = tuple(entry for family in FAMILIES.values() for entry in family.entries)
ZOO: Mapping[str, Entry] = MappingProxyType(
    {entry.name: entry for entry in sorted(ENTRIES, key=lambda entry: entry.inside is None)}
)
"""Every entry by its full name, those inside the package first."""


def resolve(name: str) -> Entry:
    """The entry of a full or bare name, or of `mask_rcnn_fpn.BACKBONE` and its like. ConfigError names near misses."""
    bare, _, tag = name.partition(".")
    if name in ZOO:
        return ZOO[name]
    if not tag and (found := ZOO.get(f"{name}.{DEFAULT_PUBLISHER}")):
        return found
    if tag and bare in ZOO and ZOO[bare].publisher == tag:
        return ZOO[bare]
    if tag and bare in ZOO and ZOO[bare].over is not None:
        return ZOO[bare].named(tag)
    raise ConfigError(
        f"There is no model '{name}' in the zoo.{suggest(name, {*ZOO, *(n.partition('.')[0] for n in ZOO)})}"
    )


def build(entry: Entry, classes: Classes | None = None) -> AnyModel:
    """The model with random weights, for `classes` or the published ones."""
    return build_config(config_of(entry).for_classes(classes or entry.classes))


def config_of(entry: Entry) -> Config:
    """The config of an entry. ConfigError where it is known only once a part is named or a checkpoint is read."""
    if entry.config is None:
        raise ConfigError(
            f"'{entry.name}' is rebuilt from its checkpoint; it cannot be built without."
            if entry.inside
            else f"'{entry.name}' needs a backbone: '{entry.name}.NAME' with a timm model, e.g. "
            f"'{entry.name}.convnext_tiny'."
        )
    return entry.config


def published_as(file: Path) -> Entry | None:
    """The entry whose weights are published under this file's name."""
    return next((entry for entry in ZOO.values() if entry.weights and entry.weights.file == file.name), None)


def check_name(file: Path, entry: Entry) -> None:
    """Raises ConfigError where `file` has the name under which the weights of another entry are published.

    Names and shapes of weights do not tell everything: those of `yolact_r101` and `yolact_r101_700` are the same.
    """
    other = published_as(file)
    if other is not None and other.name != entry.name:
        raise ConfigError(
            f"{file} has the name under which '{other.name}' is published; with '{entry.name}' it would give wrong "
            f"results. Name that model, or rename the file if it holds something else."
        )


def over_backbone(name: str) -> bool:
    """Whether a name is that of a network that is trained from a pretrained backbone."""
    try:
        return resolve(name).pretrained
    except ConfigError:
        return False


def over(backbone: str) -> list[str]:
    """The names of all networks over a backbone."""
    return [f"{entry.name}.{backbone}" for entry in ZOO.values() if entry.over is not None]


def full_name(name: str) -> str:
    """The name of the entry that a bare name means; a name of no entry as it is."""
    try:
        return resolve(name).name
    except ConfigError:
        return name


def rebuild(
    header: Mapping[str, Any], source: object = "The checkpoint", state: Mapping[str, Tensor] | None = None
) -> tuple[AnyModel, Classes]:
    """The network, with random weights, and the classes that the header of one of our checkpoints describes.

    source: the file, for messages. state: its tensors, with which the network is compared before it takes any memory.
    Raises WeightsError where the header does not describe a network, or one that the tensors do not fit.
    """
    config, classes = network_of(header, source, state)
    with _describing(source):
        return build_config(config), classes


def network_of(
    header: Mapping[str, Any], source: object = "The checkpoint", state: Mapping[str, Tensor] | None = None
) -> tuple[Config, Classes]:
    """The config and the classes that such a header describes; see `rebuild`."""
    with _describing(source):
        config, classes = _network_of(header)
    if state is not None:
        with _describing(source), torch.device("meta"):
            outline = build_config(config)
        check_fits(outline, state, str(source))
    return config, classes


@contextmanager
def _describing(source: object) -> Iterator[None]:
    """Turns whatever a damaged description raises into a WeightsError that names the file."""
    try:
        yield
    except Exception as error:
        damage = f"its config or classes are damaged ({type(error).__name__}: {str(error)[:200]})."
        reason = str(error) if isinstance(error, MaskwrightError) else damage
        text = f"{source} describes no network that this maskwright can rebuild: {reason[:_LONGEST]}"
        raise WeightsError(text) from error


def _network_of(header: Mapping[str, Any]) -> tuple[Config, Classes]:
    family = header.get("family", "rcnn")
    if family not in FAMILIES:
        raise WeightsError(f"There is no model family '{str(family)[:100]}'.{suggest(str(family)[:100], FAMILIES)}")
    about = header["classes"]
    if not all(isinstance(name, str) for name in about["names"]) or not all(type(i) is int for i in about["ids"]):
        raise WeightsError("classes are names, which are texts, and ids, which are whole numbers.")
    marks = [None if row is None else decode(Landmarks, row) for row in about.get("landmarks") or ()]
    classes = Classes(about["names"], about["ids"], marks or None)
    return decode(FAMILIES[family].config, header["config"]), classes


def describe(config: Config, classes: Classes, architecture: str) -> dict[str, Any]:
    """The header from which `rebuild` makes the same network again."""
    marks = [None if row is None else encode(row) for row in classes.landmarks]
    return {
        "architecture": architecture,
        "family": family_name(config),
        "config": encode(config),
        "classes": {
            "names": list(classes.names),
            "ids": list(classes.ids),
            **({"landmarks": marks} if any(marks) else {}),  # headers of models without landmarks stay as they were
        },
    }


def known() -> Known:
    """What is known of all published networks, to convert their files and to say which one a file is of."""

    def shapes(entry: Entry) -> Callable[[], Shapes]:
        return lambda: shapes_of(lambda: build(entry))

    return Known(
        {name: shapes(entry) for name, entry in ZOO.items() if entry.config is not None},
        tuple(names for family in FAMILIES.values() for names in family.names),
        {start: rows for family in FAMILIES.values() for start, rows in family.class_rows.items()},
    )


def table() -> list[dict[str, Any]]:
    """One row of JSON values per entry; `default_of` is the bare name that means it."""
    return [_row(entry) for entry in ZOO.values()]


def _row(entry: Entry) -> dict[str, Any]:
    bare, _, tag = entry.name.partition(".")
    weights = entry.weights
    inside = Path(str(files("maskwright.weights") / entry.inside)) if entry.inside else None
    megabytes = weights.megabytes if weights else None
    if inside is not None and inside.is_file():
        megabytes = round(inside.stat().st_size / 1e6, 1)
    return {
        "name": entry.name,
        "default_of": bare if tag == DEFAULT_PUBLISHER else None,
        "summary": entry.summary,
        "classes": len(entry.classes),
        "parameters": entry.parameters,
        "megabytes": megabytes,
        **{
            key: getattr(weights, key, None)
            for key in ("box_ap", "mask_ap", "keypoint_ap", "pq", "measured_on", "data", "digest")
        },
        "licence": weights.licence if weights else "Apache-2.0" if entry.inside else None,
        "publisher": weights.publisher if weights else "maskwright" if entry.inside else None,
        "source": weights.url if weights else "in the package" if entry.inside else None,
    }
