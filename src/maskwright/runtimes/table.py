"""The kinds of exported files, one row each: what they are called, what runs them, how they are written.

A kind is a name of `maskwright export --to`, and its suffix says of which kind a file is.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from maskwright.runtimes.onnx_runtime import OnnxRuntime
from maskwright.runtimes.open_vino import OpenVino
from maskwright.runtimes.runtime import Opener
from maskwright.runtimes.writing import save_onnx, save_openvino


@dataclass(frozen=True)
class Kind:
    """A kind of exported file.

    suffix: of its name; beside: of a second file that belongs to it, empty where there is none. extra: of the package,
    which installs what it needs. open: opens one. save: writes one from an ONNX file, with a header, in a folder.
    """

    suffix: str
    extra: str
    open: Opener
    save: Callable[[Path, Path, str], None]
    beside: str = ""


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "onnx": Kind(".onnx", "onnx", OnnxRuntime, save_onnx),
        "openvino": Kind(".xml", "openvino", OpenVino, save_openvino, beside=".bin"),
    }
)
"""By name."""


def kind_of(path: str | os.PathLike[str]) -> str | None:
    """The name of the kind of exported file that a path has the suffix of; None where it has none."""
    suffix = Path(path).suffix.lower()
    return next((name for name, kind in KINDS.items() if kind.suffix == suffix), None)
