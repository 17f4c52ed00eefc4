"""The division of a data set into training and validation images."""

from collections.abc import Sequence
from dataclasses import dataclass

from maskwright.codec import Section, ranged
from maskwright.data import formats
from maskwright.data.dataset import Annotation, Dataset, usual_part
from maskwright.errors import DataError, suggest

SHARE = 0.2
"""Of the images, held out where neither the settings nor the data say which."""


@dataclass(frozen=True)
class DataSettings(Section):
    """What to learn from and what to measure on.

    data: annotation file or folder; data_format: a name of `data.formats.FORMATS`, None recognises it. images: the
    images' folder where it is not the format's own. val, val_images: annotations of the images to measure on, and
    their folder. val_fraction: without them, the share of the images that is held out, chosen by a hash of the file
    name and `split_salt`; None takes the parts train and val that the data names, or else a fifth.
    """

    data: str = ""
    images: str = ""
    data_format: str | None = None
    val: str | None = None
    val_images: str = ""
    val_fraction: float | None = ranged(None, low=0, high=0.9)
    split_salt: str = ""


@dataclass(frozen=True, eq=False)
class Split:
    """data: training images. held_out: validation images, or None. chosen_by: how these were chosen, in words."""

    data: Dataset
    held_out: Dataset | None
    chosen_by: str


def split_data(settings: DataSettings) -> Split:
    """Validation images: those of `val`, else those that the file marks so, else a share chosen by a hash of the names.

    A `val_fraction` that is given takes precedence over the file's own parts. Of a single image nothing is held out.
    Raises DataError where images are missing, where either side has no object, or where the validation images have a
    class that the training annotations do not list.
    """
    data = formats.load(settings.data, settings.images or None, settings.data_format)
    if not len(data):
        raise DataError(f"{data.source}: the data set has no images, so there is nothing to learn from.")
    data.require_files()
    found = _chosen(settings, data)
    _check_objects(data, found.data)
    return found


def _chosen(settings: DataSettings, data: Dataset) -> Split:
    if settings.val:
        form = settings.data_format if settings.data_format in ("masks", "foreground") else None  # in one layout
        held_out = formats.load(settings.val, settings.val_images or settings.images or None, form)
        held_out.require_files()
        _check_classes(data, held_out)
        _check_measurable(held_out, str(settings.val))
        return Split(data, held_out, str(settings.val))
    named = data.parts() if settings.val_fraction is None else {}
    first, second = (next((n for n in named if usual_part(n) == part), None) for part in ("train", "val"))
    first = first or next((n for n in named if n.lower() == "trainval"), None)
    left = [f"{len(part)} of '{name}'" for name, part in named.items() if name not in (first, second)]
    rest = f"; left out: {', '.join(left)}" if left else ""
    if first and second:
        _check_measurable(named[second], f"the part '{second}' of the data")
        return Split(named[first], named[second], f"the part '{second}' of the data{rest}")
    if first:
        return _divided(settings, named[first], rest)
    unknown = ", ".join(f"'{name}'" for name in named)
    rest = f"; not by the parts of the data ({unknown}), none is called train" if named else ""
    return _divided(settings, data, rest)


def _divided(settings: DataSettings, data: Dataset, note: str) -> Split:
    """A share held out by a hash of the names, with at least one image that has an object, if two have one.

    note: added to the description.
    """
    share = SHARE if settings.val_fraction is None else settings.val_fraction
    if share == 0:
        return Split(data, None, f"val_fraction is 0{note}")
    if len(data) == 1:
        return Split(data, None, f"a single image cannot be divided{note}")
    learnt, held_out = data.split(share, settings.split_salt)
    if not _filled(held_out):
        filled = data.subset(i for i, record in enumerate(data.images) if _has_object(data.annotations[record.id]))
        if len(filled) < 2:
            return Split(data, None, f"fewer than two images have an object{note}")
        held = {record.id for part in (held_out, filled.split(share, settings.split_salt)[1]) for record in part.images}
        learnt, held_out = (
            data.subset(i for i, record in enumerate(data.images) if (record.id in held) == inside)
            for inside in (False, True)
        )
    real = len(held_out) / len(data)
    about = f"about {real:.0%}" if real >= 0.01 else "under 1%"
    return Split(learnt, held_out, f"{len(held_out)} of {len(data)}, {about}, chosen by their names{note}")


def _check_objects(data: Dataset, learnt: Dataset) -> None:
    """Whether an object that is no crowd is left to learn from; where not, whether the other images have all."""
    if _filled(learnt):
        return
    data.require_objects()
    others = _filled(data)
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
