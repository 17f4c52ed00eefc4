"""Brush strokes of Label Studio: run lengths of an RGBA image, packed into bits, in a list of bytes.

    32 bits   how many values the image has (H x W x 4)
     5 bits   bits of a value, less 1
    4 x 4     bits of a run's length, less 1, for each of four sizes
    then runs, until all values are there:
     1 bit    whether one value follows for all of the run
     2 bits   which of the four sizes its length has
     n bits   its length, less 1
     values   one, or one for each place

The mask is where the last of the four channels, opacity, is not 0. Letters: H W image.
"""

from typing import Any

import numpy as np

from maskwright.data.formats.shared.fields import Record, short
from maskwright.media import MAX_PIXELS
from maskwright.types import BoolArray, Size


def decode(at: Record, value: Any, size: Size) -> BoolArray:
    """(H, W) the mask of a stroke. Raises the record's fault for damaged run lengths, before memory is taken."""
    if not isinstance(value, list) or not all(type(v) is int and 0 <= v < 256 for v in value):
        raise at.fault(f"'rle' must be a list of bytes (0..255), got {short(value)}.")
    height, width = size
    if height * width > MAX_PIXELS:
        raise at.fault(f"{height}x{width} pixels (height x width) are more than {MAX_PIXELS}.")
    bits, place = "".join(f"{v:08b}" for v in value), 0

    def read(count: int) -> int:
        nonlocal place
        place += count
        if place > len(bits):
            raise at.fault("the run lengths of the brush are cut off. Export the project again.")
        return int(bits[place - count : place], 2)

    total, depth = read(32), read(5) + 1
    sizes = [read(4) + 1 for _ in range(4)]
    if total != height * width * 4:
        raise at.fault(f"the brush has {total} values, an image of {height}x{width} (height x width) needs 4 a pixel.")
    out, i = np.zeros(total, np.bool_), 0
    while i < total:
        same = read(1)
        end = i + 1 + read(sizes[read(2)])
        if same:
            out[i:end] = bool(read(depth))
        else:
            for k in range(i, min(end, total)):
                out[k] = bool(read(depth))
        i = end
    return out.reshape(height, width, 4)[:, :, 3]
