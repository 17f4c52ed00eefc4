"""What a format cannot hold: refused before anything is written, or left out and counted in a sentence."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from maskwright.data.dataset import Annotation, Dataset
from maskwright.errors import DataError

_MOST_NAMED = 5  # examples that a sentence names


def check_names(dataset: Dataset, place: Path, forbidden: str = "", reserved: Sequence[str] = ()) -> None:
    """Raises DataError for class names that a format with one name a line cannot hold.

    Names must differ and have no line end and no space around them, no character of `forbidden`, and none may be one
    of `reserved`.
    """
    names = dataset.classes.names
    twice = sorted(n for n, count in Counter(names).items() if count > 1)
    if twice:
        raise DataError(
            f"{place}: {dataset.source} has several classes called '{twice[0]}', and this format knows classes by "
            f"name. Rename them, or write COCO, which keeps them apart by their ids."
        )
    for n in names:
        if not n or n != n.strip() or len(n.splitlines()) != 1 or set(n) & set(forbidden) or n in reserved:
            raise DataError(f"{place}: this format cannot hold the class name {n!r}. Rename the class.")


def lost_fields(
    dataset: Dataset, crowds: str = "left out", boxes: str = "left out", *, landmarks: bool = True
) -> tuple[str, ...]:
    """The sentences about crowds, boxes without outline, landmarks, track ids and frames, with their images.

    crowds, boxes: what becomes of them, empty where they are kept. landmarks: whether they are lost.
    """
    tests: list[tuple[object, str, Callable[[Annotation], bool]]] = [
        (crowds, f"crowd region{{s}} {crowds}", lambda a: a.crowd),
        (boxes, f"object{{s}} with a box only {boxes}", lambda a: a.segmentation is None and not a.crowd),
        (landmarks, "object{s} without the landmarks they had", lambda a: a.has_landmarks),
        (True, "object{s} without the track id they had", lambda a: a.track_id is not None),
    ]
    notes: tuple[str, ...] = ()
    for lost, what, test in tests:
        names = [r.file_name for r in dataset.images for a in dataset.annotations[r.id] if lost and test(a)]
        notes += sentence(len(names), what, names)
    return notes + lost_frames(dataset)


def lost_frames(dataset: Dataset) -> tuple[str, ...]:
    """The sentence about frames of clips, for formats that have no field for them."""
    frames = sum(r.frame is not None for r in dataset.images)
    return sentence(frames, "image{s} without the clip and the place in it that they had")


def sentences(lost: Mapping[str, int]) -> tuple[str, ...]:
    """A sentence for each kind of loss that occurred; see `sentence`."""
    return tuple(text for what, count in lost.items() for text in sentence(count, what))


def sentence(count: int, what: str, examples: Sequence[str] = ()) -> tuple[str, ...]:
    """`("3 crowd regions ... (a.png, b.png).",)`, or nothing where the count is 0. what: with {s}, {es} for plurals."""
    if count == 0:
        return ()
    shown = list(dict.fromkeys(examples))
    more = ", ..." if len(shown) > _MOST_NAMED else ""
    where = f" ({', '.join(shown[:_MOST_NAMED])}{more})" if shown else ""
    return (f"{count} {what.format(s='' if count == 1 else 's', es='' if count == 1 else 'es')}{where}.",)
