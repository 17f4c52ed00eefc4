"""A prediction in a notebook: shown with its image, and as a table."""

import html
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageShow

from maskwright import draw, media
from maskwright.errors import ConfigError, MissingExtraError
from maskwright.ops import masks as mask_ops
from maskwright.report.page import data_uri
from maskwright.types import Instances

LONGEST = 1200
"""Most pixels of the long side of an image that is put into a notebook."""


@dataclass(eq=False, repr=False)
class Shown(Instances):
    """Instances that can be shown. image: the one that was predicted, as it was given; None where it is not known."""

    image: Any = field(default=None, kw_only=True)

    def draw(self, image: Any = None, **options: Any) -> NDArray[np.uint8]:
        """The image with the instances drawn on it, (H, W, 3) uint8 RGB; options are those of `draw.overlay`.

        image: a path, a PIL image or an array; None: the one that was predicted. Raises ConfigError where neither is
        known, as after `load`, and for an option that does not exist. A tiled TIFF with more pixels than
        `media.MAX_PIXELS` is drawn reduced, at most 4096 pixels wide.
        """
        options, pixels = dict(draw.checked(options)), self.pixels(image)
        windows = media.windows_of(pixels, lambda size: size[0] * size[1] > media.MAX_PIXELS)
        if windows is None:
            return draw.overlay(media.as_image(pixels), self, **options)
        with windows:
            small = windows.look()
        return draw.overlay(small, draw.reduced(self, windows.reduction, small.shape[:2]), **options)

    def pixels(self, image: Any = None) -> Any:
        """The image that is given, or the one that was predicted. Raises ConfigError where there is none."""
        image = self.image if image is None else image
        if image is None:
            raise ConfigError(
                "This prediction does not know its image: it was loaded from a file, or is a frame of a video. Give it "
                "the image that was predicted.",
                options=("image",),
            )
        return image

    def save_overlay(self, path: Path, image: Any = None) -> Path:
        """Write the overlay as an image file. image: as for `draw`."""
        media.write_image(path, self.draw(image))
        return path

    def show(self, image: Any = None, **options: Any) -> None:
        """Show the overlay, under the cell of a notebook or in the system's viewer. image, options: as for `draw`.

        Raises ConfigError where the system has no viewer.
        """
        drawn = Image.fromarray(self.draw(image, **options))
        python = sys.modules.get("IPython")
        if python is not None and hasattr(python.get_ipython(), "kernel"):  # a notebook, not IPython in a terminal
            python.display.display(python.display.Image(_jpeg(drawn), format="jpeg"))
        elif not ImageShow.show(drawn, title="maskwright"):
            raise ConfigError("This system has no program that shows images. Write the overlay: save('overlay.png').")

    def _repr_html_(self) -> str:
        """The summary, and the overlay where the image is known: what a notebook shows of a result."""
        text = f"<pre>{html.escape(repr(self))}</pre>"
        if self.image is None:
            return text
        uri = data_uri(_jpeg(Image.fromarray(self.draw())), "jpeg")
        return f'{text}<img alt="{html.escape(repr(self).splitlines()[0])}" src="{uri}">'

    def to_pandas(self) -> Any:
        """A `pandas.DataFrame` with a row for each instance, in pixels of the image.

        Columns: class, score, area, x0, y0, x1, y1; with masks perimeter, centroid_x and centroid_y (see
        `ops.masks.measure`), else the area is the box's; track_id of a video. Raises MissingExtraError where pandas is
        not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise MissingExtraError("pandas", "pandas", "Prediction.to_pandas") from error
        columns: dict[str, Any] = {
            "class": [self.classes[int(k)] for k in self.labels],
            "score": self.scores,
            "area": (self.boxes[:, 2:] - self.boxes[:, :2]).prod(axis=1),
            **dict(zip(("x0", "y0", "x1", "y1"), self.boxes.T, strict=True)),
            **({} if self.crops is None else mask_ops.measure(self.crops)),
            **({} if self.track_ids is None else {"track_id": self.track_ids}),
        }
        return pandas.DataFrame({name: np.asarray(values) for name, values in columns.items()})


def _jpeg(image: Image.Image) -> bytes:
    """The image for a notebook, shrunk where its long side has more than LONGEST pixels.

    A PNG would take four times the space, and notebooks are kept in repositories.
    """
    image.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
    return media.encoded(image, "JPEG", quality=90, subsampling=0, optimize=True)
