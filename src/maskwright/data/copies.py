"""Images of a data set that are the same, or nearly the same, so that they belong on one side of a division."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from maskwright.data.dataset import Dataset
from maskwright.data.faults.looks import ImageLook, look_all
from maskwright.data.faults.set_checks import Sketches

END = 1 << 16  # bytes at both ends of a file that are compared before all of it
CHEAP = 100e6  # pixels up to which all images are decoded to compare how they look, which takes seconds


def identical(sets: Sequence[Dataset]) -> list[list[tuple[int, int]]]:
    """Groups of at least two (data set, position) whose files are one file or hold the same bytes."""
    files = [((s, i), data.path(i)) for s, data in enumerate(sets) for i in range(len(data))]
    by_size: dict[int, list[tuple[tuple[int, int], Path]]] = defaultdict(list)
    for place, path in files:
        by_size[path.stat().st_size].append((place, path))
    found: dict[tuple[bytes, ...], list[tuple[int, int]]] = defaultdict(list)
    for like in by_size.values():
        ends: dict[bytes, list[tuple[tuple[int, int], Path]]] = defaultdict(list)
        for place, path in like if len(like) > 1 else ():
            ends[_digest(path, whole=False)].append((place, path))
        for end, rows in ends.items():
            for place, path in rows if len(rows) > 1 else ():
                found[end, _digest(path, whole=True)].append(place)
    return [places for places in found.values() if len(places) > 1]


def _digest(path: Path, *, whole: bool) -> bytes:
    with path.open("rb") as stream:
        if whole:
            return hashlib.file_digest(stream, "blake2b").digest()
        first = stream.read(END)
        stream.seek(max(0, path.stat().st_size - END))
        return hashlib.blake2b(first + stream.read()).digest()


def looks_of(data: Dataset) -> dict[int, ImageLook]:
    """How the images look, by position; those that cannot be read or show nothing are left out."""
    looks = look_all([data.path(i) for i in range(len(data))])
    return {i: look for i, look in enumerate(looks) if look.problem is None and not look.blank}


def is_cheap(sets: Iterable[Dataset]) -> bool:
    """Whether all images can be decoded within seconds."""
    return sum(record.size[0] * record.size[1] for data in sets for record in data.images) <= CHEAP


def similar(looks: dict[int, ImageLook], others: dict[int, ImageLook]) -> list[tuple[int, int]]:
    """Pairs of a position in `looks` and one in `others` that look alike, all of them."""
    seen, places = Sketches(list(others.values())), list(others)
    return [(i, places[row]) for i, look in looks.items() for row in seen.like(look)[0].tolist()]
