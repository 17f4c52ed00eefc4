"""Names that say a side: which of them change places when an image is mirrored left-right.

One rule for classes and for landmarks. Case, and what separates words, do not count: "LEFT ear" and "right-ear" are
partners. A side is a word (`left`, `ear_left`, `leftEar`), part of one (`lefteye`), or the letter l or r as a word of
its own (`l_ear`, `wingL`, `LWrist`).
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from functools import lru_cache

_WORDS = (
    ("left", "right"),
    ("links", "rechts"),
    ("gauche", "droite"),
    ("izquierda", "derecha"),
    ("izquierdo", "derecho"),
    ("左", "右"),
)
_LETTERS = ("l", "r")
_TOKEN = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+|[^\W\d_]+")

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

    A letter, or a part of a word, may mean something else: it counts where other names have both sides in that way, a
    letter also at an end of a name that has a word of three letters.
    """
    keys, partners = [_tokens(name) for name in names], mirrored(names)
    letters, paired = not _enumerated(keys), [key for k, key in enumerate(keys) if partners[k] != k]
    by_part, by_letter = any(_says(key, inside=True) for key in paired), any(_has_letter(key) for key in paired)

    def says(key: Tokens) -> bool:
        if _says(key) or (by_part and _says(key, inside=True)):
            return True
        at_end = _has_letter((*key[:1], *key[-1:])) and any(len(word) > 2 for word in key)
        return letters and (at_end or (by_letter and _has_letter(key)))

    return tuple(k for k, key in enumerate(keys) if partners[k] == k and says(key))


def _tokens(name: str) -> Tokens:
    return tuple(word.lower() for word in _TOKEN.findall(name))


def _exchanged(key: Tokens, letters: bool) -> Iterator[Tokens]:
    """The key with left and right exchanged: in one place ("upright left") or in all."""
    for pair in (*_WORDS, *([_LETTERS] if letters else [])):
        for one, other in (pair, pair[::-1]):
            places = [(i, m.start()) for i, word in enumerate(key) for m in re.finditer(one, word)
                      if pair is not _LETTERS or word == one]  # fmt: skip
            for i, at in places:
                yield (*key[:i], key[i][:at] + other + key[i][at + len(one) :], *key[i + 1 :])
            if len(places) > 1:
                within = {i for i, _ in places}
                yield tuple(word.replace(one, other) if i in within else word for i, word in enumerate(key))


def _says(key: Tokens, *, inside: bool = False) -> bool:
    """Whether left or right is a word of the key; inside: or any side a part of one."""
    if inside:
        return any(side in word for word in key for pair in _WORDS for side in pair)
    return bool(set(key) & set(_WORDS[0]))


def _has_letter(key: Tokens) -> bool:
    return any(word in _LETTERS for word in key)


def _enumerated(keys: list[Tokens]) -> bool:
    """Whether l or r is one of several letters that number things, as in sizes S, M, L or in an alphabet."""
    seen: dict[Tokens, set[str]] = defaultdict(set)
    for key in keys:
        for i, word in enumerate(key):
            if len(word) == 1 and word.isalpha():
                seen[(*key[:i], "*", *key[i + 1 :])].add(word)
    return any(found & set(_LETTERS) and found - set(_LETTERS) for found in seen.values())
