"""Which images a run learns from, and which it is measured on."""

from collections.abc import Sequence
from dataclasses import dataclass

from maskwright.data import formats
from maskwright.data.dataset import Annotation, Dataset, usual_part
from maskwright.errors import DataError, suggest
from maskwright.training.config import TrainConfig

SHARE = 0.2
"""Of the images, held out where nobody and nothing says which."""


@dataclass(frozen=True, eq=False)
class Parts:
    """data: to learn from. held_out: to measure on, or None. origin: where it comes from, for a person."""

    data: Dataset
    held_out: Dataset | None
    origin: str


def parts(config: TrainConfig) -> Parts:
    """Annotations of their own (`val`), else the parts the file names, else a share chosen by a hash of the names.

    A `val_fraction` that is given goes before the file's own parts. Of a single image nothing is held out. Raises
    DataError where images are missing, no object is left to learn from or to measure on, or the two sides do not
    belong together.
    """
    data = formats.load(config.data, config.images or None, config.data_format)
    if not len(data):
        raise DataError(f"{data.source}: the data set has no images, so there is nothing to learn from.")
    data.require_files()
    found = _chosen(config, data)
    _check_objects(data, found.data)
    return found


def _chosen(config: TrainConfig, data: Dataset) -> Parts:
    if config.val:
        held_out = formats.load(config.val, config.val_images or config.images or None, None)
        held_out.require_files()
        _check_classes(data, held_out)
        _check_measurable(held_out, str(config.val))
        return Parts(data, held_out, str(config.val))
    named = data.parts() if config.val_fraction is None else {}
    first, second = (next((n for n in named if usual_part(n) == part), None) for part in ("train", "val"))
    first = first or next((n for n in named if n.lower() == "trainval"), None)
    left = [f"{len(part)} of '{name}'" for name, part in named.items() if name not in (first, second)]
    rest = f"; left out: {', '.join(left)}" if left else ""
    if first and second:
        _check_measurable(named[second], f"the part '{second}' of the data")
        return Parts(named[first], named[second], f"the part '{second}' of the data{rest}")
    if first:
        return _divided(config, named[first], rest)
    unknown = ", ".join(f"'{name}'" for name in named)
    return _divided(config, data, f"; not by the parts of the data ({unknown}), none is called train" if named else "")


def _divided(config: TrainConfig, data: Dataset, told: str) -> Parts:
    """A share held out by a hash of the names; with it at least one image that has an object, if two have."""
    share = SHARE if config.val_fraction is None else config.val_fraction
    if share == 0:
        return Parts(data, None, f"val_fraction is 0{told}")
    if len(data) == 1:
        return Parts(data, None, f"a single image cannot be divided{told}")
    learnt, held_out = data.split(share, config.split_salt)
    if not _filled(held_out):
        filled = data.subset(i for i, record in enumerate(data.images) if _has_object(data.annotations[record.id]))
        if len(filled) < 2:
            return Parts(data, None, f"fewer than two images have an object{told}")
        held = {record.id for part in (held_out, filled.split(share, config.split_salt)[1]) for record in part.images}
        learnt, held_out = (
            data.subset(i for i, record in enumerate(data.images) if (record.id in held) == inside)
            for inside in (False, True)
        )
    real = len(held_out) / len(data)
    about = f"about {real:.0%}" if real >= 0.01 else "under 1%"
    return Parts(learnt, held_out, f"{len(held_out)} of {len(data)}, {about}, chosen by their names{told}")


def _check_objects(data: Dataset, learnt: Dataset) -> None:
    """Whether an object that is no crowd is left to learn from; where not, whether the other images have all."""
    if _filled(learnt):
        return
    others = _filled(data)
    if not others:
        raise DataError(f"{data.source}: none of the {len(data)} images has an object, nothing can be learnt.")
    raise DataError(
        f"{data.source}: none of the {len(learnt)} images to learn from has an object; those that have one "
        f"({others}) are held out or left out. Annotate more images, or hold out others (val, val_fraction)."
    )


def _check_measurable(held_out: Dataset, where: str) -> None:
    if not _filled(held_out):
        raise DataError(
            f"{where}: none of the {len(held_out)} images to measure on has an object, so it would never show which "
            f"weights are best. Annotate some, name others (val), or hold out a share of the rest (val_fraction)."
        )


def _filled(data: Dataset) -> int:
    """The images with an object that is no crowd."""
    return sum(map(_has_object, data.annotations.values()))


def _has_object(rows: Sequence[Annotation]) -> bool:
    return any(not a.crowd for a in rows)


def _check_classes(data: Dataset, held_out: Dataset) -> None:
    known = list(data.classes)
    for label, name in enumerate(held_out.classes):
        used = any(a.label == label for rows in held_out.annotations.values() for a in rows)
        if used and name not in known:
            raise DataError(
                f"{held_out.source}: its class '{name}' is not one of {data.source}: {', '.join(known[:10])}"
                f"{', ...' if len(known) > 10 else ''}. Give both files the same classes.{suggest(name, known)}"
            )
