"""Names that say a side: which of them change places when an image is mirrored left-right.

One rule for classes and for landmarks. Case, and what separates words, do not count: "LEFT ear" and "right-ear" are
partners. A side is a word (`left`, `ear_left`, `leftEar`; also in other languages), part of one (`lefteye`), a short
form (`ear_lhs`, `FL wheel`), the letter l or r as a word of its own (`l_ear`, `wingL`, `LWrist`), or such a letter at
the beginning or end of a part of a body or a vehicle (`lhand`, `kneer`). Other words that differ in such a letter, lake
and rake, say no side.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import lru_cache

_WORDS = (
    ("left", "right"),
    ("links", "rechts"),
    ("gauche", "droite"),
    ("izquierda", "derecha"),
    ("izquierdo", "derecho"),
    ("左", "右"),
    ("왼", "오른"),
)
"""Sides that may be parts of words."""

_FORMS = (
    *_WORDS,
    *(("linke" + end, "rechte" + end) for end in ("", "r", "s", "n", "m")),
    ("gauche", "droit"),
    *((f"sinistr{end}", f"destr{end}") for end in "ao"),
    *((f"esquerd{end}", f"direit{end}") for end in "ao"),
    *((f"lew{end}", f"praw{end}") for end in "aey"),
    *((f"лев{end}", f"прав{end}") for end in ("ый", "ая", "ое")),
    ("lhs", "rhs"),
)
"""Sides that are words; of each it is known that it says a side, `links` apart, which is English as well."""

_SHORT = (
    *(("lt", "rt"), ("sx", "dx"), ("izq", "der")),
    *(("fl", "fr"), ("rl", "rr"), ("bl", "br"), ("lf", "rf"), ("lr", "rr"), ("lb", "rb"), ("lh", "rh")),
)
"""Words that are sides where both are there: front left, rear right, left hind."""

_LETTERS = ("l", "r")
_PARTS = (
    *("ankle", "antenna", "arm", "breast", "brow", "cheek", "door", "ear", "elbow", "eye", "fin", "finger", "foot"),
    *("hand", "headlight", "hip", "kidney", "knee", "lamp", "leg", "lung", "mirror", "paw", "shoulder", "sho", "thumb"),
    *("toe", "wheel", "wing", "wrist"),
)
_GLUED = tuple(
    pair
    for part in _PARTS
    for pair in ((f"l{part}", f"r{part}"), (f"left{part}", f"right{part}"), (f"{part}left", f"{part}right"))
)
_AT_END = tuple((f"{part}l", f"{part}r") for part in _PARTS)  # kneel and pawl are words of their own
_TOKEN = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+|[^\W\d_]+")

_SURE = {side for pair in (*_FORMS, *_GLUED) for side in pair} - {"links", "rear"}
_SHORT_WORDS = {side for pair in _SHORT for side in pair}

_OTHERS: dict[str, list[str]] = defaultdict(list)
for _one, _other in (*_FORMS, *_SHORT, *_GLUED, *_AT_END, _LETTERS):
    _OTHERS[_one].append(_other)
    _OTHERS[_other].append(_one)

Tokens = tuple[str, ...]


@lru_cache(maxsize=64)
def mirrored(names: tuple[str, ...]) -> tuple[int, ...]:
    """For each name the position of the one that replaces it in a mirrored image; its own where there is none."""
    keys = [_tokens(name) for name in names]
    first = {key: k for k, key in reversed(list(enumerate(keys)))}
    letters = not _enumerated(keys)
    partners = [next((first[o] for o in _exchanged(key, letters) if o in first), k) for k, key in enumerate(keys)]
    return tuple(other if partners[other] == k else k for k, other in enumerate(partners))


def one_sided(names: tuple[str, ...]) -> tuple[int, ...]:
    """The positions of the names that say a side while no name says the other: mirrored, they would be wrong.

    A letter, a short form, or a part of a word, may mean something else: it counts where other names have both sides in
    that way, a letter also at an end of a name that has a word of three letters.
    """
    keys, partners = [_tokens(name) for name in names], mirrored(names)
    letters, paired = not _enumerated(keys), [key for k, key in enumerate(keys) if partners[k] != k]
    by_part, by_letter = any(_says(key, inside=True) for key in paired), any(_has_letter(key) for key in paired)
    short = {word for key in paired for word in key} & _SHORT_WORDS and _SHORT_WORDS

    def says(key: Tokens) -> bool:
        if _says(key) or (by_part and _says(key, inside=True)) or not short.isdisjoint(key):
            return True
        at_end = _has_letter((*key[:1], *key[-1:])) and any(len(word) > 2 for word in key)
        return letters and (at_end or (by_letter and _has_letter(key)))

    return tuple(k for k, key in enumerate(keys) if partners[k] == k and says(key))


def _tokens(name: str) -> Tokens:
    return tuple(word.lower() for word in _TOKEN.findall(name))


def _exchanged(key: Tokens, letters: bool) -> Iterator[Tokens]:
    """The key with left and right exchanged: in one place ("upright left") or in all."""
    for pair in _WORDS:
        for one, other in (pair, pair[::-1]):
            places = [(i, m.start()) for i, word in enumerate(key) for m in re.finditer(one, word)]
            yield from _replaced(key, places, one, other)
    for word in dict.fromkeys(key):
        for other in _OTHERS.get(word, ()):
            if letters or word not in _LETTERS:
                yield from _replaced(key, [(i, 0) for i, own in enumerate(key) if own == word], word, other)


def _replaced(key: Tokens, places: Sequence[tuple[int, int]], one: str, other: str) -> Iterator[Tokens]:
    """places: (word, character) where `one` is."""
    for i, at in places:
        yield (*key[:i], key[i][:at] + other + key[i][at + len(one) :], *key[i + 1 :])
    if len(places) > 1:
        within = {i for i, _ in places}
        yield tuple(word.replace(one, other) if i in within else word for i, word in enumerate(key))


def _says(key: Tokens, *, inside: bool = False) -> bool:
    """Whether a side is a word of the key; inside: or a part of one."""
    if inside:
        return any(side in word for word in key for pair in _WORDS for side in pair)
    return not _SURE.isdisjoint(key)


def _has_letter(key: Tokens) -> bool:
    return any(word in _LETTERS for word in key)


def _enumerated(keys: list[Tokens]) -> bool:
    """Whether l or r belongs to a series of letters, as in the sizes S, M, L or in an alphabet."""
    seen: dict[Tokens, set[str]] = defaultdict(set)
    for key in keys:
        for i, word in enumerate(key):
            if len(word) == 1 and word.isalpha():
                seen[(*key[:i], "*", *key[i + 1 :])].add(word)
    return any(found & set(_LETTERS) and found - set(_LETTERS) for found in seen.values())
