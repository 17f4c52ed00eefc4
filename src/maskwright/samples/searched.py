"""Selective search for training: each image of a data set is searched once, whichever process needs it first."""

import os
import shutil
import tempfile
import weakref
from pathlib import Path

import numpy as np

from maskwright.atomic import replacing
from maskwright.ops.selective_search import selective_search
from maskwright.types import FloatArray, ImageArray, SearchSpec


class Searched:
    """The proposals of a data set's images, kept in files that the processes which prepare images share.

    The files are removed with the object, in the process that made it.
    """

    def __init__(self, spec: SearchSpec) -> None:
        self.spec = spec
        self.folder = Path(tempfile.mkdtemp(prefix="maskwright-proposals-"))
        weakref.finalize(self, _remove, self.folder, os.getpid())

    def boxes(self, position: int, image: ImageArray) -> FloatArray:
        """(P, 4) of the image (H, W, 3) at a position of the data set, in its pixels."""
        file = self.folder / f"{position}.npy"
        if file.is_file():
            found: FloatArray = np.load(file)
            return found
        found = selective_search(image, self.spec)
        with replacing(file) as beside, beside.open("wb") as stream:
            np.save(stream, found)
        return found


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)
