"""The pixels of a decoded video frame, with all their bits, upright.

Letters: H W image, C channels.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from maskwright.media.stored import Stored

if TYPE_CHECKING:
    from av.video.format import VideoFormat
    from av.video.frame import VideoFrame


def depth(form: "VideoFormat") -> int:
    """Bits of a channel; those beyond 16 are not read."""
    return min(16, max(component.bits for component in form.components))


def stored(frame: "VideoFrame") -> Stored:
    """Its values: (H, W) of grey ones with more than 8 bits, else RGB (H, W, 3), with opacity (H, W, 4).

    They are turned as the video says it is to be shown (quarter turns alone exist).
    """
    bits, components = depth(frame.format), frame.format.components
    alpha = any(c.is_alpha for c in components)
    if bits <= 8:
        values: NDArray[Any] = frame.to_ndarray(format="rgba" if alpha else "rgb24")
    else:
        form = "rgba64le" if alpha else "gray16le" if len(components) == 1 and components[0].is_luma else "rgb48le"
        values = np.right_shift(np.asarray(frame.to_ndarray(format=form), np.uint16), 16 - bits)
    top = (1 << bits) - 1 if 8 < bits < 16 else None
    return Stored(values=np.rot90(values, round(frame.rotation / 90) % 4), alpha=alpha, top=top)
