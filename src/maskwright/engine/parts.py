"""Which pictures a run learns from, and which it is measured on."""

from dataclasses import dataclass

from maskwright.data import formats
from maskwright.data.dataset import Dataset
from maskwright.engine.train_config import TrainConfig
from maskwright.errors import DataError, suggest

TRAIN = ("train", "training", "trainval")
VAL = ("val", "valid", "validation")
"""Names that files give to the two parts."""
SHARE = 0.2
"""Of the pictures, held out where nobody and nothing says which."""


@dataclass(frozen=True, eq=False)
class Parts:
    """data: to learn from. held_out: to measure on, or None. origin: where it comes from, for a person."""

    data: Dataset
    held_out: Dataset | None
    origin: str


def parts(config: TrainConfig) -> Parts:
    """Annotations of their own (`val`), else the parts the file names, else a share chosen by a hash of the names.

    A `val_fraction` that is given goes before the file's own parts. Of a single picture nothing is held out. Raises
    DataError where pictures are missing, no object is left to learn from, or the two sides do not belong together.
    """
    data = formats.load(config.data, config.images or None, config.data_format)
    _check_files(data)
    found = _chosen(config, data)
    _check_objects(data, found.data)
    return found


def _chosen(config: TrainConfig, data: Dataset) -> Parts:
    if config.val:
        held_out = formats.load(config.val, config.val_images or config.images or None, None)
        _check_files(held_out)
        _check_classes(data, held_out)
        return Parts(data, held_out, str(config.val))
    named = data.parts() if config.val_fraction is None else {}
    first, second = (next((n for n in names if n in named), None) for names in (TRAIN, VAL))
    if first and second:
        left = [f"{len(part)} of '{name}'" for name, part in named.items() if name not in (first, second)]
        rest = f"; left out: {', '.join(left)}" if left else ""
        return Parts(named[first], named[second], f"the part '{second}' of the data{rest}")
    share = SHARE if config.val_fraction is None else config.val_fraction
    if share == 0:
        return Parts(data, None, "val_fraction is 0")
    if len(data) == 1:
        return Parts(data, None, "a single picture cannot be divided")
    learnt, held_out = data.split(share, config.split_salt)
    real = len(held_out) / len(data)
    told = f"about {real:.0%}" if real >= 0.01 else "under 1%"
    return Parts(learnt, held_out, f"{len(held_out)} of {len(data)}, {told}, chosen by their names")


def _check_files(data: Dataset) -> None:
    missing = data.check_files()
    if missing:
        some = ", ".join(str(path) for path in missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise DataError(f"{data.source}: {len(missing)} of {len(data)} picture files are missing: {some}.")


def _check_objects(data: Dataset, learnt: Dataset) -> None:
    """Whether an object that is no crowd is left to learn from; where not, whether the other pictures have all."""
    if _filled(learnt):
        return
    others = _filled(data)
    if not others:
        raise DataError(f"{data.source}: none of the {len(data)} pictures has an object, nothing can be learnt.")
    raise DataError(
        f"{data.source}: none of the {len(learnt)} pictures to learn from has an object; those that have one "
        f"({others}) are held out or left out. Annotate more pictures, or hold out others (val, val_fraction)."
    )


def _filled(data: Dataset) -> int:
    """The pictures with an object that is no crowd."""
    return sum(any(not a.crowd for a in rows) for rows in data.annotations.values())


def _check_classes(data: Dataset, held_out: Dataset) -> None:
    known = list(data.classes)
    for label, name in enumerate(held_out.classes):
        used = any(a.label == label for rows in held_out.annotations.values() for a in rows)
        if used and name not in known:
            raise DataError(
                f"{held_out.source}: its class '{name}' is not one of {data.source}: {', '.join(known[:10])}"
                f"{', ...' if len(known) > 10 else ''}. Give both files the same classes.{suggest(name, known)}"
            )
