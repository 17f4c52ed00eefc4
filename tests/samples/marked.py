"""Images whose hues tell which object, or which landmark, is where, and how to find them again after any movement.

Everything lies on black, so that interpolation with the ground changes a colour's brightness but not its hue.
"""

import numpy as np

from maskwright.samples.sample import Objects, Sample
from maskwright.types import Landmarks, Masks

HUES = 12
"""Colours that stay apart: neighbours differ by half the range in one channel."""
PAIR = Landmarks(("left eye", "right eye", "nose"), ((0, 2), (1, 2)))
ALONE = Landmarks(("tip",))


def make_sample(rng: np.random.Generator, size: tuple[int, int], count: int, *, masks: bool = True) -> Sample:
    """An image of noise with `count` rectangles, their labels 0, 1, ...; some are crowds."""
    dense = np.zeros((count, *size), bool)
    for mask in dense:
        top, left = rng.integers(size[0]), rng.integers(size[1])
        mask[top : top + 1 + rng.integers(size[0]), left : left + 1 + rng.integers(size[1])] = True
    crops = Masks.from_dense(dense)
    objects = Objects(
        boxes=crops.boxes(),
        labels=np.arange(count, dtype=np.int64),
        masks=crops if masks else None,
        crowd=rng.random(count) < 0.2,
    )
    return Sample(rng.integers(0, 256, (*size, 3), dtype=np.uint8), objects)


def hue(k: int) -> np.ndarray:
    """(3,) float, largest channel 1."""
    wheel = np.abs((6 * k / HUES + np.array([0.0, 4.0, 2.0])) % 6 - 3) - 1
    return np.clip(wheel, 0, 1)


def share_of(image: np.ndarray, k: int) -> np.ndarray:
    """(H, W) how bright each pixel is, 0..1, where its hue is `k`; else 0."""
    values = image.astype(float) / 255
    bright = values.max(axis=2)
    near = np.abs(values - bright[..., None] * hue(k)).max(axis=2) <= 0.15 * bright + 0.02
    return np.where(near & (bright > 0.08), bright, 0)


def disks(rng: np.random.Generator, size: tuple[int, int], count: int, first: int = 0) -> Sample:
    """Up to 12 ellipses of their own hues, later ones over earlier; labels are the hues' numbers."""
    image, owner = np.zeros((*size, 3), np.uint8), np.full(size, -1)
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    for k in range(count):
        cx, cy = rng.uniform(0, size[1]), rng.uniform(0, size[0])
        a, b = rng.uniform(0.15, 0.4, 2) * min(size) + 1
        inside = ((x - cx) / a) ** 2 + ((y - cy) / b) ** 2 <= 1
        owner[inside], image[inside] = k, np.rint(255 * hue(first + k))
    seen = [k for k in range(count) if (owner == k).any()]
    masks = Masks.from_dense(np.array([owner == k for k in seen]).reshape(-1, *size), size)
    labels = np.array([first + k for k in seen], np.int64)
    return Sample(image, Objects(masks.boxes(), labels, masks, np.zeros(len(seen), bool)))


def dots(rng: np.random.Generator, size: tuple[int, int], first: int = 0) -> Sample:
    """One object of three landmarks (class 0, PAIR) and one of one (class 1, ALONE), each point a 5x5 dot of its hue.

    Rows of the keypoints: hues first .. first + 3; the fifth and sixth point are padding. Masks are the whole image.
    """
    image, points = np.zeros((*size, 3), np.uint8), np.zeros((2, 3, 3), np.float32)
    taken: list[tuple[int, int]] = []
    while len(taken) < 4:
        spot = int(rng.integers(3, size[0] - 3)), int(rng.integers(3, size[1] - 3))
        if all(max(abs(spot[0] - r), abs(spot[1] - c)) > 9 for r, c in taken):
            taken.append(spot)
    for k, (row, column) in enumerate(taken):
        image[row - 2 : row + 3, column - 2 : column + 3] = np.rint(255 * hue(first + k))
        points[k // 3, k % 3] = column + 0.5, row + 0.5, 2 - k % 2
    masks = Masks.from_dense(np.ones((2, *size), bool))
    objects = Objects(masks.boxes(), np.array([0, 1]), masks, np.zeros(2, bool), points, (PAIR, ALONE))
    return Sample(image, objects)


def find(image: np.ndarray, k: int) -> np.ndarray | None:
    """(x, y) of the middle of a hue, None where it is not in the image."""
    weight = share_of(image, k)
    if not weight.any():
        return None
    y, x = np.mgrid[: image.shape[0], : image.shape[1]] + 0.5
    return np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()
