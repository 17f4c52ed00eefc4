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
        ("left_ear", "RIGHT ear"), ("wing links", "wing rechts"), ("hand-l", "hand-r"), ("hand_lhs", "hand_rhs"),
        ("œil gauche", "œil droit"), ("linke Hand", "rechte Hand"), ("linkes Bein", "rechtes Bein"),
        ("mano izquierda", "mano derecha"), ("mano_izq", "mano_der"), ("mano sinistra", "mano destra"),
        ("occhio_sx", "occhio_dx"), ("olho esquerdo", "olho direito"), ("левая рука", "правая рука"),
        ("왼손", "오른손"), ("Lt kidney", "Rt kidney"), ("LF_paw", "RF_paw"), ("wheel RL", "wheel RR"),
        ("lhand", "rhand"), ("LHIP", "RHIP"), ("kneel", "kneer"),
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
        ("lake", "rake", "earl", "rear", "kneel", "pawl"),
        ("fence links", "FL", "der Tag", "Rt. Hon."),
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
        (("main gauche", "nose"), ("main gauche",)),
        (("linke Hand", "nose"), ("linke Hand",)),
        (("lhand", "nose", "handright"), ("lhand", "handright")),
        (("wheel FL", "wheel FR", "wheel RL"), ("wheel RL",)),
    ],
)
def test_a_side_without_its_counterpart_is_named(names: tuple[str, ...], alone: tuple[str, ...]) -> None:
    assert tuple(names[k] for k in one_sided(names)) == alone
