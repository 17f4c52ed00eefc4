"""Which class of a data set each class of a model is.

Letters: Q classes of the model.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

import numpy as np

from maskwright.data.dataset import Dataset
from maskwright.errors import ConfigError, DataError, suggest
from maskwright.models.base import finds_stuff
from maskwright.results.prediction import Prediction
from maskwright.types import Classes, Instances, IntArray, Landmarks, Part
from maskwright.wording import counted


def match_classes(model: Classes, dataset: Dataset, class_names: Mapping[str, str] | None = None) -> IntArray:
    """(Q,) the data set's label of each of the model's labels, -1 where the data set does not have the class.

    Classes match by name; where a name occurs twice, by name and category id. class_names translates the model's
    names first. Raises DataError, with both lists and near misses, if an annotated class has no counterpart.
    """
    data, renamed = dataset.classes, dict(class_names or {})
    for old, new in renamed.items():
        if old not in model.names:
            raise ConfigError(f"The model has no class '{old}'.{suggest(old, model.names)}", options=("class_names",))
        if new not in data.names:
            problem = f"{dataset.source} has no class '{new}'.{suggest(new, data.names)}"
            raise ConfigError(problem, options=("class_names",))
    translation = Classes([renamed.get(name, name) for name in model.names], model.ids).match(data)
    annotated = {a.label for i in range(len(dataset)) for a in dataset.of(i)}
    lost = sorted(annotated - set(translation.tolist()))
    if lost or (translation < 0).all():
        _refuse(model, dataset, lost)
    return translation


def _refuse(model: Classes, dataset: Dataset, lost: list[int]) -> None:
    data = dataset.classes
    missing = [data.names[k] for k in lost] or list(data.names)
    hints = {name: suggest(name, model.names, listing=False) for name in missing[:5]}
    near = "".join(f" '{name}':{hint}" for name, hint in hints.items() if hint)
    raise DataError(
        f"{dataset.source}: the model has no class for {len(missing)} of the data set's classes ({_listed(missing)}), "
        f"so their AP would be 0 whatever it finds.{near}\n"
        f"  model ({len(model)}): {_listed(model.names)}\n"
        f"  data  ({len(data)}): {_listed(data.names)}\n"
        "If two names mean the same class, give the data set's name for the model's.",
        options=("class_names",),
    )


def translated(found: Instances, translation: IntArray, classes: Classes) -> Instances:
    """`found` with the data set's labels; rows of classes it does not have are left out, pixels of these are -1.

    A semantic map that has classes of its own keeps them.
    """
    known = found[translation[found.labels] >= 0]
    labels, points = translation[known.labels], known.keypoints
    for label, marks in enumerate(found.classes.landmarks if points is not None else ()):
        own = classes.landmarks[translation[label]] if translation[label] >= 0 else None
        order = _order(marks, own)
        if points is not None and order is not None and order != sorted(order):
            rows = np.flatnonzero(known.labels == label)
            points = points.copy()
            points[rows[:, None], np.arange(len(order))] = points[rows[:, None], order]
    moved = replace(known, labels=labels, classes=classes, keypoints=points)
    if isinstance(moved, Prediction) and moved.semantic is not None and moved.semantic_classes is None:
        return replace(moved, semantic=np.where(moved.semantic < 0, -1, translation[moved.semantic]))
    return moved


def with_landmarks(
    names: tuple[str, ...], usual: bool, model: Classes, dataset: Dataset, translation: IntArray
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The metrics, where these are the `usual` ones with that of landmarks if there are some, or a note why not.

    Raises DataError where it was asked for and the model's landmarks are others.
    """
    unlike = unlike_landmarks(model, dataset, translation)
    if "keypoints" in names and unlike:
        raise DataError(f"{dataset.source}: {unlike}, so the keypoints metric cannot compare them.")
    if not usual or not any(a.has_landmarks for own in dataset.annotations.values() for a in own):
        return names, ()
    if unlike:
        return names, (f"Landmarks were not measured: {unlike}.",) if any(model.landmarks) else ()
    return (*names, "keypoints"), ()


def of_stuff(dataset: Dataset, parts: Collection[type[Part]]) -> tuple[str, ...]:
    """The metrics of all pixels that the data set has maps for, where a model with these parts gives such."""
    if dataset.panoptic_maps is None or not finds_stuff(parts):
        return ()
    return ("panoptic", *(("semantic",) if dataset.semantic_maps else ()))


def unlike_landmarks(model: Classes, dataset: Dataset, translation: IntArray) -> str:
    """Why the model's landmarks are not those of the data set's objects; empty where they are, in whatever order."""
    labels = {a.label for own in dataset.annotations.values() for a in own if a.has_landmarks}
    for label in sorted(labels):
        own, name = dataset.classes.landmarks[label], dataset.classes[label]
        theirs = [model.landmarks[k] for k in np.flatnonzero(translation == label).tolist()]
        if own is None or not theirs or theirs[0] is None:
            return f"the model finds no landmarks of '{name}'"
        if any(_order(marks, own) is None for marks in theirs):
            return (
                f"the landmarks of '{name}' are called otherwise, {_listed(own.names[:20])} in the data and "
                f"{_listed(theirs[0].names[:20])} in the model"
            )
    return ""


def _order(model: Landmarks | None, data: Landmarks | None) -> list[int] | None:
    """The position in the model's landmarks of each of the data's; None where they are not the same ones."""
    if model is None or data is None:
        return None
    known = {_plain(name): k for k, name in enumerate(model.names)}
    wanted = [_plain(name) for name in data.names]
    same = len(known) == len(model) == len(set(wanted)) == len(wanted) and set(known) == set(wanted)
    return [known[name] for name in wanted] if same else None


def _plain(name: str) -> str:
    """A name without its way of joining words: `left_eye` is `Left Eye`."""
    return "".join(c for c in name.lower() if c.isalnum())


def class_notes(model: Classes, translation: IntArray, foreign: int) -> tuple[str, ...]:
    """A sentence about the model's classes that the data set does not have. foreign: how many detections these had."""
    absent = [name for name, k in zip(model.names, translation, strict=True) if k < 0]
    if not absent:
        return ()
    names = _listed(absent[:10]) + (", ..." if len(absent) > 10 else "")
    left_out = f"{counted(foreign, 'detection')} of them left out"
    return (f"{counted(len(absent), 'class', 'es')} of the model not in the data set ({names}); {left_out}.",)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
