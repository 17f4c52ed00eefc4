"""What each training step shows of the images."""

from dataclasses import dataclass
from typing import Literal

from maskwright.codec import Section, open_field, ranged


@dataclass(frozen=True)
class BatchSettings(Section):
    """Which images make a step, besides their variations.

    batch_size: images at once, in all processes together. accumulate: batches for one optimiser step. repeats: times
    an epoch shows each image, each time varied anew; for small data sets. short_edges: draw the input's short edge
    from these, instead of the network's own size. keep_empty: learn also from images without objects. orientation:
    "free" where images have no up and down, as seen through a microscope or from above. mirror: False never mirrors
    images, whatever `augment` says. workers: processes that prepare images, for each process that trains.
    """

    batch_size: int = open_field(4, low=1)
    accumulate: int = ranged(1, low=1)
    repeats: int = ranged(1, low=1)
    short_edges: tuple[int, ...] = ranged((), low=1)
    keep_empty: bool = True
    orientation: Literal["upright", "free"] = "upright"
    mirror: bool = open_field(True)
    workers: int = open_field(0, low=0)
