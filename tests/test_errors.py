"""Words of errors."""

from maskwright.errors import MOST_NAMED, suggest


def test_near_misses_are_offered_and_long_lists_are_not() -> None:
    assert suggest("resnet5", ["resnet50", "swin"]) == " Did you mean 'resnet50'?"
    assert suggest("x", ["b", "a"]) == " Known: a, b."
    assert suggest("x", []) == suggest("x", ["b", "a"], listing=False) == ""
    assert suggest("x", map(str, range(100, 100 + MOST_NAMED))).count(",") == MOST_NAMED - 1
    assert suggest("x", map(str, range(100, 101 + MOST_NAMED))) == ""
