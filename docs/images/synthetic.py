"""Make docs/images/synthetic.jpg: scenes with their masks, landmarks and panoptic maps, and a clip with its flow.

python docs/images/synthetic.py
"""

from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from maskwright import draw
from maskwright.data.synthetic import Scene, clip, compose

OUT = Path(__file__).with_suffix(".jpg")
DOTS = {2: (255, 255, 255), 1: (255, 60, 60)}


def landmarks(scene: Scene) -> np.ndarray:
    """The overlay with the landmarks: white where seen, red where hidden."""
    image = Image.fromarray(draw.overlay(scene.image, scene.instances, labels=False, scores=False))
    pen = ImageDraw.Draw(image)
    for row, label in zip(scene.keypoints, scene.instances.labels, strict=True):
        for a, b in scene.instances.classes.landmarks[label].links:
            if row[a, 2] and row[b, 2]:
                pen.line([*row[a, :2], *row[b, :2]], fill=(255, 255, 255))
        for x, y, visibility in row[row[:, 2] > 0]:
            pen.ellipse((x - 2, y - 2, x + 2, y + 2), fill=DOTS[int(visibility)], outline=(0, 0, 0))
    return np.asarray(image)


def panoptic(scene: Scene) -> np.ndarray:
    """The panoptic map, a colour for each segment."""
    colours = np.array([draw.colour_of(k) for k in range(int(scene.panoptic.ids.max()) + 1)], np.uint8)
    return colours[scene.panoptic.ids]


def arrows(frame) -> np.ndarray:
    """The frame with its backward flow, ten times as long as it is; red where it is not valid."""
    flow, valid = frame.flow()
    tinted = frame.image.copy()
    tinted[~valid] = (230, 30, 30)
    image = Image.fromarray(tinted)
    pen = ImageDraw.Draw(image)
    for y in range(10, valid.shape[0], 20):
        for x in range(10, valid.shape[1], 20):
            dx, dy = 10 * flow[y, x]
            pen.line((x + 0.5, y + 0.5, x + 0.5 + dx, y + 0.5 + dy), fill=(255, 255, 255), width=1)
            pen.ellipse((x - 1, y - 1, x + 2, y + 2), fill=(255, 255, 255))
    return np.asarray(image)


def main() -> None:
    """Write the image."""
    rows = []
    for seed, objects, classes in ((0, 8, 5), (4, 14, 8)):
        scene = compose(seed, objects=objects, classes=classes)
        rows.append(np.hstack([scene.image, landmarks(scene), panoptic(scene)]))
    frames = list(islice(clip(1, 61, classes=8), 0, None, 30))
    rows.append(np.hstack([frames[0].image, frames[1].image, arrows(frames[2])]))
    sheet = Image.fromarray(np.vstack(rows))
    sheet.resize((sheet.width * 4 // 5, sheet.height * 4 // 5), Image.Resampling.LANCZOS).save(OUT, quality=82)


if __name__ == "__main__":
    main()
