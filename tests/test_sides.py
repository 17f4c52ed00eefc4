"""Names that say a side: which change places in a mirrored image, and which would be wrong there."""

import pytest

from maskwright.types.sides import mirrored, one_sided


@pytest.mark.parametrize(
    "pair",
    [
        ("left", "right"), ("LEFT", "RIGHT"), ("Left Ear", "Right Ear"), ("ear_left", "ear-right"), ("l_ear", "r_ear"),
        ("L ear", "R ear"), ("ear.l", "ear.r"), ("wingL", "wingR"), ("LWrist", "RWrist"), ("leftEye", "rightEye"),
        ("lefteye", "righteye"), ("hand (left)", "hand (right)"), ("upper left", "upper right"), ("left1", "right1"),
        ("L", "R"), ("arrow_left", "arrow_right"), ("aile gauche", "aile droite"), ("左手", "右手"),
        ("left_ear", "RIGHT ear"), ("wing links", "wing rechts"),
    ],
)  # fmt: skip
def test_both_sides_change_places_whatever_the_spelling(pair: tuple[str, str]) -> None:
    assert mirrored((pair[0], "nose", pair[1])) == (2, 1, 0)
    assert one_sided((pair[0], "nose", pair[1])) == ()


@pytest.mark.parametrize(
    "names",
    [
        ("small", "medium", "large"),
        ("upright", "bright", "leftover", "cleft", "alright"),
        ("S", "M", "L", "XL"),
        ("size_s", "size_m", "size_l"),
        tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
        ("L1", "L2", "L3", "S1"),
        ("car", "lorry", "rider"),
        ("lice", "rice", "lock", "rock"),
    ],
)
def test_other_names_say_no_side(names: tuple[str, ...]) -> None:
    assert mirrored(names) == tuple(range(len(names)))
    assert one_sided(names) == ()


@pytest.mark.parametrize(
    ("names", "alone"),
    [
        (("left ear", "nose"), ("left ear",)),
        (("left ear", "right ear", "left eye"), ("left eye",)),
        (("Ear_RIGHT",), ("Ear_RIGHT",)),
        (("l_ear", "nose"), ("l_ear",)),
        (("wingL", "wingR", "legL", "body"), ("legL",)),
        (("lefteye", "righteye", "leftear"), ("leftear",)),
        (("right whale",), ("right whale",)),
    ],
)
def test_a_side_without_its_counterpart_is_named(names: tuple[str, ...], alone: tuple[str, ...]) -> None:
    assert tuple(names[k] for k in one_sided(names)) == alone
