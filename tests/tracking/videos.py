"""Videos and a tiny video model for the tests of tracking."""

from pathlib import Path

import torch

from maskwright.data.synthetic import Motion, clip
from maskwright.media.video import write_video
from maskwright.models import yolact_edge
from maskwright.models.family import build
from maskwright.predictor.predictor import Predictor
from maskwright.types import Classes, ImageArray

CLASSES = Classes(["a", "=b", "c"], [4, 7, 9])


def predictor() -> Predictor:
    torch.manual_seed(0)
    return Predictor(build(yolact_edge.tiny_variants()["video"]), CLASSES, name="video")


def images(count: int, size: tuple[int, int] = (64, 96)) -> list[ImageArray]:
    return [s.image for s in clip(1, count, size, 4, 3, motion=Motion(camera=0.3))]


def video(path: Path, count: int = 11, times: list[float] | None = None) -> Path:
    with write_video(path, 10) as writer:
        for i, image in enumerate(images(count)):
            writer.write(image, None if times is None else times[i])
    return path
