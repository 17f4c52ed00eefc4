"""The division of a data set into training and validation images."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from maskwright.codec import Section, ranged
from maskwright.data import formats
from maskwright.data.copies import CHEAP, identical, is_cheap, looks_of, similar
from maskwright.data.dataset import Annotation, Dataset, usual_part
from maskwright.data.faults.table import FAULTS
from maskwright.data.split import clip_of
from maskwright.errors import DataError, suggest
from maskwright.wording import counted

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
    """data: training images. held_out: validation images, or None. chosen_by: how these were chosen, in words.

    notes: how images of the two parts are related (one clip, copies), a sentence each. whole: the data set as
    it was read.
    """

    data: Dataset
    held_out: Dataset | None
    chosen_by: str
    notes: tuple[str, ...] = ()
    whole: Dataset | None = None


def split_data(settings: DataSettings) -> Split:
    """Validation images: those of `val`, else those that the file marks so, else a share chosen by a hash of the names.

    A `val_fraction` that is given takes precedence over the file's own parts. Of a single image nothing is held out.
    The share has whole clips, and copies of one image are on one side. Where validation images are named, their copies
    are left out of the training images. Raises DataError where most of them are such copies, where images are missing,
    where either side has no object, or where the validation images have a class that the training annotations do not
    list.
    """
    data = formats.load(settings.data, settings.images or None, settings.data_format)
    if not len(data):
        raise DataError(f"{data.source}: the data set has no images, so there is nothing to learn from.")
    data.require_files()
    found = _chosen(settings, data)
    _check_objects(data, found.data)
    return replace(found, whole=data)


def _chosen(settings: DataSettings, data: Dataset) -> Split:
    if settings.val:
        form = settings.data_format if settings.data_format in ("masks", "foreground") else None  # in one layout
        held_out = formats.load(settings.val, settings.val_images or settings.images or None, form)
        held_out.require_files()
        _check_classes(data, held_out)
        _check_measurable(held_out, str(settings.val))
        return _apart(data, held_out, str(settings.val))
    named = data.parts() if settings.val_fraction is None else {}
    first, second = (next((n for n in named if usual_part(n) == part), None) for part in ("train", "val"))
    first = first or next((n for n in named if n.lower() == "trainval"), None)
    left = [f"{len(part)} of '{name}'" for name, part in named.items() if name not in (first, second)]
    rest = f"; left out: {', '.join(left)}" if left else ""
    if first and second:
        _check_measurable(named[second], f"the part '{second}' of the data")
        return _apart(named[first], named[second], f"the part '{second}' of the data{rest}")
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
    alike, told = _alike(data)
    groups = list(data.together(alike).values())
    if len(groups) == 1:
        return _end_of(data, share, note)
    learnt, held_out = data.split(share, settings.split_salt, alike)
    if not _filled(held_out):
        full = [i for i, record in enumerate(data.images) if _has_object(data.annotations[record.id])]
        at = {position: k for k, position in enumerate(full)}
        same = [kept for group in groups if (kept := [at[i] for i in group if i in at])]
        if len(same) < 2:
            return Split(data, None, f"fewer than two images have an object{note}")
        others = data.subset(full).split(share, settings.split_salt, same)[1]
        held = {record.id for part in (held_out, others) for record in part.images}
        whole = {i for group in groups if any(data.images[i].id in held for i in group) for i in group}
        learnt, held_out = (
            data.subset(i for i in range(len(data)) if (i in whole) == inside) for inside in (False, True)
        )
    real = len(held_out) / len(data)
    about = f"about {real:.0%}" if real >= 0.01 else "under 1%"
    how = f"chosen by their names{_kept_together(data, groups)}{note}"
    return Split(learnt, held_out, f"{len(held_out)} of {len(data)}, {about}, {how}", told)


# ---- clips and copies -----------------------------------------------------------------------------------------------


def _alike(data: Dataset) -> tuple[list[list[int]], tuple[str, ...]]:
    """Groups of positions of copies, and of images that look alike where it is quickly seen; and what to say of them.

    Where most images look alike, as from a camera that does not move, likeness divides nothing.
    """
    copies = [[i for _, i in group] for group in identical([data])]
    cheap = is_cheap([data])
    looks = looks_of(data) if cheap else {}
    alike = [[i, j] for i, j in similar(looks, looks) if i < j]

    def too_large(groups: list[list[int]]) -> bool:
        return max(map(len, data.together(groups).values())) > len(data) / 2

    if alike and too_large([*copies, *alike]) and not too_large(copies):
        text = f"Most of the {len(data)} images look alike: what is measured may be too good for other images."
        return copies, (f"near-duplicate-in-val: {text} {FAULTS['near-duplicate-in-val'].advice}",)
    return [*copies, *alike], () if cheap else (_not_compared(len(data)),)


def _kept_together(data: Dataset, groups: Sequence[Sequence[int]]) -> str:
    """Which images were not divided, in words."""
    clips = [{clip_of(data.images[i]) or i for i in group} for group in groups if len(group) > 1]
    frames = sum(len(names) == 1 for names in clips)
    likes = len(clips) - frames
    words = f", {counted(frames, 'clip')} undivided" if frames else ""
    return words + (f", {counted(likes, 'group')} of like images undivided" if likes else "")


def _end_of(data: Dataset, share: float, note: str) -> Split:
    """The last images of a single clip held out: their neighbours are learnt from, which is said."""
    frames = [record.frame.index if record.frame else -1 for record in data.images]
    names = [[int(w) if w.isdecimal() else w for w in re.split(r"(\d+)", r.file_name)] for r in data.images]
    order = sorted(range(len(data)), key=lambda i: (frames[i], names[i]))
    held = sorted(order[-max(1, min(len(data) - 1, round(share * len(data)))) :])
    learnt, held_out = data.subset(sorted(set(order) - set(held))), data.subset(held)
    if not _filled(held_out) or not _filled(learnt):
        return Split(data, None, f"all images are of one clip, which cannot be divided{note}")
    text = (
        "All images are of one clip or alike, and its end is held out: images like those are learnt from, so the "
        "measured accuracy is too high. Annotate images of other clips to measure on (val)."
    )
    return Split(learnt, held_out, f"the last {len(held)} of {len(data)}{note}", (text,))


def _apart(learnt: Dataset, held_out: Dataset, chosen_by: str) -> Split:
    """Named validation images, without their copies among the training images. Raises DataError where most are such."""
    fault, near = FAULTS["in-train-and-val"], FAULTS["near-duplicate-in-val"]
    groups = [group for group in identical([learnt, held_out]) if len({side for side, _ in group}) == 2]
    ours, theirs = (sorted(i for group in groups for s, i in group if s == side) for side in (0, 1))
    told = f"in-train-and-val: {{}} {_named(held_out, theirs)}. {fault.summary}"
    if 2 * len(theirs) > len(held_out) or len(ours) == len(learnt):
        what = f"{len(ours)} of the {len(learnt)} images to learn from are also"
        raise DataError(
            f"{learnt.source}: {told.format(what)} {fault.advice} Name other images to measure on, or none: then a "
            f"share is held out.",
            options=("val",),
        )
    what = f"{counted(len(ours), 'image')} to learn from, left out of these, among"
    notes = [told.format(what)] if ours else []
    learnt = learnt.subset(i for i in range(len(learnt)) if i not in set(ours))
    if is_cheap([learnt, held_out]):
        pairs = similar(looks_of(learnt), looks_of(held_out))
        if like := sorted({j for _, j in pairs}):
            notes.append(f"near-duplicate-in-val: {_named(held_out, like)}. {near.summary} {near.advice}")
    else:
        notes.append(_not_compared(len(learnt) + len(held_out)))
    return Split(learnt, held_out, chosen_by, tuple(notes))


def _not_compared(count: int) -> str:
    """That images were too many to compare how they look."""
    return (
        f"Copies that are not equal byte for byte were not looked for: the {count} images have over {CHEAP / 1e6:g} "
        f"million pixels. `maskwright data check` compares all."
    )


def _named(held_out: Dataset, positions: Sequence[int]) -> str:
    names = ", ".join(held_out.images[i].file_name for i in positions[:3]) + (", ..." if len(positions) > 3 else "")
    return f"{len(positions)} of the {len(held_out)} images to measure on ({names})"


# ---- what must be there ---------------------------------------------------------------------------------------------


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
