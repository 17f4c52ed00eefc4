"""Videos of nuclei as a fluorescence microscope shows them, with their exact outlines."""

from collections.abc import Iterator

import numpy as np

from maskwright.types import ImageArray, Masks


def moving_nuclei(
    seed: int, frames: int, speed: float, count: int = 24, size: int = 256
) -> Iterator[tuple[ImageArray, Masks]]:
    """Bright textured ellipses that drift and turn on a dark ground, and what of each is seen, frame by frame.

    speed: standard deviation of their velocities, pixels a frame. size: of both sides. Images (size, size, 3) uint8.
    """
    rng = np.random.default_rng(seed)
    begin, speeds = rng.uniform(0, size, (count, 2)), rng.normal(0, speed, (count, 2))
    axes, turn, spin = rng.uniform(7, 12, (count, 2)), rng.uniform(0, 3, count), rng.normal(0, 0.01, count)
    spots, noise = rng.uniform(-0.7, 0.7, (count, 4, 2)), rng.normal(0, 2, (8, size, size))
    for t in range(frames):
        image, owner, best = np.full((size, size), 8.0), np.full((size, size), -1), np.full((size, size), 1.0)
        middles = (begin + speeds * t) % (size + 30) - 15
        for i in range(count):
            top, left = (max(0, int(m) - 40) for m in middles[i, ::-1])
            window = (slice(top, int(middles[i, 1]) + 40), slice(left, int(middles[i, 0]) + 40))
            y, x = (np.arange(n) + 0.5 for n in image[window].shape)
            x, y = x + left - middles[i, 0], y[:, None] + top - middles[i, 1]
            c, s = np.cos(turn[i] + spin[i] * t), np.sin(turn[i] + spin[i] * t)
            u, v = (x * c + y * s) / axes[i, 0], (y * c - x * s) / axes[i, 1]
            distance = np.hypot(u, v)
            light = 120 / (1 + np.exp(8 * (distance.clip(0, 3) - 1)))
            for a, b in spots[i]:
                light = light * (1 - 0.4 * np.exp(-((u - a) ** 2 + (v - b) ** 2) / 0.06))
            image[window] = np.maximum(image[window], light)
            owner[window] = np.where(distance < best[window], i, owner[window])
            best[window] = np.minimum(best[window], distance)
        grey = (image + noise[t % 8]).clip(0, 255).astype(np.uint8)
        masks = np.stack([owner == i for i in range(count)])
        yield np.repeat(grey[..., None], 3, axis=2), Masks.from_dense(masks[masks.any(axis=(1, 2))])
