"""What a training run is asked to do: one section of settings for each part of training, checked as it is written."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any, Self

from maskwright.codec import UNSET, FieldError, encode, open_field
from maskwright.errors import ConfigError, suggest
from maskwright.samples.augment import Augment
from maskwright.training.batches import BatchSettings
from maskwright.training.compute import ComputeSettings
from maskwright.training.learning import LearningSettings
from maskwright.training.network import NetworkSettings
from maskwright.training.position import LengthSettings
from maskwright.training.split import DataSettings
from maskwright.training.watch import RunSettings

SECTIONS: Mapping[str, type[Any]] = MappingProxyType(
    {
        "dataset": DataSettings,
        "network": NetworkSettings,
        "batches": BatchSettings,
        "learning": LearningSettings,
        "length": LengthSettings,
        "compute": ComputeSettings,
        "run": RunSettings,
    }
)
"""The sections of a `TrainConfig`; `augment`, which may be None, stands beside them."""

AUGMENT = "augment"

USUAL = Augment()
"""The variations where nothing is chosen or decided."""

PATHS: Mapping[str, str] = MappingProxyType(
    {f.name: f"{section}.{f.name}" for section, kind in SECTIONS.items() for f in fields(kind)} | {AUGMENT: AUGMENT}
)
"""The path of each setting by its name alone: no two sections have a field of the same name."""


@dataclass(frozen=True, init=False)
class TrainConfig:
    """One training run. Classes, and so the model's outputs, come from the annotation file.

        TrainConfig(data="leaves.json", images="photos/", lr=1e-4)      # settings by their names alone
        TrainConfig(dataset=DataSettings("leaves.json"), lr=1e-4)       # or by section; single settings take precedence

    dataset: `DataSettings`, what to learn from and to measure on. network: `NetworkSettings`. batches:
    `BatchSettings`. augment: the variations of training images, or None for none. learning: `LearningSettings`.
    length: `LengthSettings`. compute: `ComputeSettings`. run: `RunSettings`, files and messages.
    Settings that are UNSET are decided by `train` from the data (`training.defaults`).
    """

    dataset: DataSettings = field(default_factory=DataSettings)
    network: NetworkSettings = field(default_factory=NetworkSettings)
    batches: BatchSettings = field(default_factory=BatchSettings)
    augment: Augment | None = open_field(USUAL)
    learning: LearningSettings = field(default_factory=LearningSettings)
    length: LengthSettings = field(default_factory=LengthSettings)
    compute: ComputeSettings = field(default_factory=ComputeSettings)
    run: RunSettings = field(default_factory=RunSettings)

    def __init__(self, **given: Any) -> None:
        values = arranged(given)
        for section, kind in SECTIONS.items():
            value = given.get(section, UNSET)
            if value is not UNSET and not isinstance(value, kind):
                raise ConfigError(f"TrainConfig: {section} is a {kind.__name__}, got {value!r}.")
            try:
                made = replace(kind() if value is UNSET else value, **values.get(section, {}))
            except FieldError as error:
                raise FieldError(f"TrainConfig: {error}", (section, *error.path)) from None
            object.__setattr__(self, section, made)
        object.__setattr__(self, AUGMENT, given.get(AUGMENT, UNSET))

    def changed(self, **given: Any) -> Self:
        """The config with these settings, each by its name alone."""
        own: dict[str, Any] = {name: getattr(self, name) for name in (*SECTIONS, AUGMENT)}
        return type(self)(**{**own, **given})

    def is_open(self, name: str) -> bool:
        """Whether this setting was left open."""
        return self.value(name) is UNSET

    def value(self, name: str) -> Any:
        """A setting by its name alone, as `lr`; UNSET where it was left open."""
        section, _, field_name = PATHS[name].rpartition(".")
        return getattr(getattr(self, section) if section else self, field_name)

    def values(self) -> dict[str, Any]:
        """Every setting that has a value, as a plain value by its path, as `learning.lr`."""
        found = {path: self.value(name) for name, path in PATHS.items()}
        plain = {path: encode(v) if isinstance(v, Augment) else v for path, v in found.items()}
        return {path: value for path, value in plain.items() if value is not UNSET}


def arranged(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Settings that are given by their names alone, by section and field.

    Raises FieldError for a name of no setting, with a suggestion.
    """
    out: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        if name in SECTIONS or name == AUGMENT:
            continue
        if name not in PATHS:
            raise FieldError(f"There is no setting '{name}'.{suggest(name, {*PATHS, *SECTIONS})}", (name,))
        if (name, value) != ("norm", "auto"):  # how versions without sections left it open
            out.setdefault(PATHS[name].partition(".")[0], {})[name] = value
    return out
