"""A network as an ONNX graph: `detect` of one image, with a fixed number of rows.

Inputs: `images` (1, 3, H, W) float32, normalised and padded, and `size` (2,) int64, its height and width without
padding. Outputs: what `RawDetections.tensors` names. H and W may be any multiples of the model's, except where all
images are brought to one square; then they are fixed.
"""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from maskwright.errors import ConfigError, MissingExtraError
from maskwright.exporting.operators import OPSET, translations
from maskwright.models.base import AnyModel
from maskwright.ops.warp import padded_size
from maskwright.predictor.detector import NetworkDetector
from maskwright.types import Inputs, InputSpec, Limits, Semantic, Size

CELLS = 2
"""Cells of the coarsest map that the traced input has along its short side: of a single cell the tracer would think
that its number never changes."""


class DetectGraph(nn.Module):
    """What is traced; see above."""

    def __init__(self, network: AnyModel, limits: Limits) -> None:
        super().__init__()
        self.network, self.limits = network, limits

    def forward(self, images: Tensor, size: Tensor) -> dict[str, Tensor]:
        height, width = size.tolist()
        torch._check(height >= 1)
        torch._check(width >= 1)
        return self.network.detect(Inputs(images, ((height, width),)), self.limits).tensors()


def fixed_size(spec: InputSpec) -> Size | None:
    """(H, W) of every input, where all images are brought to one square; else None."""
    if spec.fit == "short_edge":
        return None
    return padded_size([(spec.size, spec.size)], spec.multiple, spec.square)


def write_graph(detector: NetworkDetector, limits: Limits, path: Path) -> Semantic | None:
    """Write the graph as an ONNX file without a header; returns a semantic part that it gives, where it gives one.

    Raises ConfigError for a network that is not on the processor in float32, or that torch cannot export.
    """
    for package in ("onnx", "onnxscript"):
        try:
            __import__(package)
        except ImportError as error:
            raise MissingExtraError(package, "onnx", "Writing an exported file") from error
    if detector.device.type != "cpu" or detector.dtype != torch.float32:
        raise ConfigError(
            f"A network is exported from the processor in float32, this one is on {detector.device} in "
            f"{str(detector.dtype).removeprefix('torch.')}. Load it with device 'cpu' and precision 'float32'.",
            options=("device", "precision"),
        )
    if detector.config.box_search is not None:
        raise ConfigError(
            "A network that is given the boxes that may hold an object (R-CNN, Fast R-CNN) cannot be exported; one "
            "that finds them itself can, such as 'faster_rcnn_r50_fpn'."
        )
    fixed = fixed_size(detector.spec)
    height, width = fixed or _traced(detector)
    images = torch.zeros(1, 3, height, width)
    with torch.no_grad():
        raw = detector.network.detect(Inputs(images), limits)
    auto = torch.export.Dim.AUTO
    with quiet(), torch.no_grad():
        program = torch.export.export(
            DetectGraph(detector.network, limits).eval(),
            (images, torch.tensor([height, width])),
            dynamic_shapes=None if fixed else {"images": {2: auto, 3: auto}, "size": None},
            strict=False,
        )
        written: Any = torch.onnx.export(
            program,
            dynamo=True,
            custom_translation_table=translations(),
            input_names=["images", "size"],
            output_names=list(raw.tensors()),
            opset_version=OPSET,
            verbose=False,
        )
    written.save(path, external_data=False)
    return raw.part(Semantic)


def _traced(detector: NetworkDetector) -> Size:
    """(H, W) of the traced input, sides that differ, as those that are equal would have to stay so."""
    multiple = max(detector.spec.multiple, 2 * max(detector.network.config.strides))
    return CELLS * multiple, (CELLS + 1) * multiple


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what torch's exporter prints, logs and warns of: none of it concerns a user."""
    disabled = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
