"""Layers of an ONNX graph in INT8: 8-bit activations, 8-bit weights with a scale for each output channel.

The graph keeps its operators; QuantizeLinear and DequantizeLinear stand before and behind those that are quantised
(Q/DQ), and a runtime replaces what lies between by its INT8 kernels. Activations are unsigned, their range is the
smallest and largest value seen on samples. Weights take 7 of the 8 bits: processors without VNNI add pairs of products
in 16 bits, which weights of 8 bits overflow, so that the same file would find something else there.

A sample is what the graph takes as inputs, by name.
"""

import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from maskwright.errors import MissingExtraError
from maskwright.exporting.graph import quiet

Sample = Mapping[str, NDArray[Any]]

LAYERS = ("Conv", "ConvTranspose", "Gemm")
"""ONNX's operators with weights, which are quantised."""

BETWEEN = ("Relu", "MaxPool", "Add")
"""Operators that are quantised where all they take comes from quantised ones, so that values between two layers stay
in 8 bits."""

AT_ONCE = 6
"""Layers whose inputs are recorded in one pass: at full size each may have a hundred megabytes."""


def layers(graph: Path) -> list[str]:
    """Names of the nodes with weights, in order."""
    model = _onnx().load(graph)
    return [node.name for node in _weighted(model.graph)]


def quantise(graph: Path, target: Path, samples: Sequence[Sample], kept: Collection[str] = ()) -> None:
    """Write `graph` with all layers but those `kept` in INT8 to `target`.

    Raises MissingExtraError without ONNX Runtime, which computes the ranges of the samples.
    """
    quantization, onnx = _quantization(), _onnx()
    chosen = _quantised(onnx.load(graph).graph, kept)
    if not chosen:  # an empty list would mean all
        shutil.copyfile(graph, target)
        return
    with tempfile.TemporaryDirectory() as folder, quiet():
        shaped = Path(folder) / "shaped.onnx"
        onnx.save(onnx.shape_inference.infer_shapes(onnx.load(graph)), shaped)
        quantization.quantize_static(
            shaped,
            target,
            _Samples(samples),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            reduce_range=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            calibrate_method=quantization.CalibrationMethod.MinMax,
            nodes_to_quantize=chosen,
        )


def by_error(graph: Path, samples: Sequence[Sample], others: Sequence[Sample]) -> list[str]:
    """The layers, those first whose output INT8 alone changes most.

    samples: give the ranges; others: on these the error is measured, relative to the output's size.
    """
    model = _onnx().load(graph)
    weights = {one.name: one for one in model.graph.initializer}
    errors = dict[str, float]()
    nodes = list(_weighted(model.graph))
    for first in range(0, len(nodes), AT_ONCE):
        some = nodes[first : first + AT_ONCE]
        seen = list(_recorded(graph, [node.input[0] for node in some], [*samples, *others]))
        for node in some:
            values = [row[node.input[0]] for row in seen]
            ranged, checked = values[: len(samples)], values[len(samples) :]
            low, high = (min(v.min() for v in ranged), max(v.max() for v in ranged))
            weight = torch.from_numpy(_onnx().numpy_helper.to_array(weights[node.input[1]]).copy())
            errors[node.name] = _error(node, weight, float(min(low, 0)), float(max(high, 0)), checked)
    return sorted(errors, key=lambda name: -errors[name])


class _Samples:
    """Hands out samples one by one, as ONNX Runtime's calibration asks for them."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.left = iter(samples)

    def get_next(self) -> Sample | None:
        return next(self.left, None)


def _error(node: Any, weight: torch.Tensor, low: float, high: float, inputs: Sequence[NDArray[Any]]) -> float:
    """Mean over the inputs of |exact - rounded| / |exact|, both without the bias."""
    scale = max(high - low, 1e-12) / 255
    zero = round(-low / scale)
    axis = 1 if node.op_type == "ConvTranspose" else 0
    others = [d for d in range(weight.ndim) if d != axis]
    step = weight.abs().amax(dim=others, keepdim=True).clamp(min=1e-12) / 63
    rounded = (weight / step).round().clamp(-63, 63) * step
    out = []
    for values in inputs:
        x = torch.from_numpy(values)
        near = (((x / scale).round() + zero).clamp(0, 255) - zero) * scale
        exact = _apply(node, x, weight)
        out.append(float((exact - _apply(node, near, rounded)).norm() / exact.norm().clamp(min=1e-12)))
    return float(np.mean(out))


def _apply(node: Any, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The layer without its bias."""
    given = {one.name: _onnx().helper.get_attribute_value(one) for one in node.attribute}
    if node.op_type == "Gemm":
        return x @ (weight.T if given.get("transB") else weight)
    pads, strides = given.get("pads", [0, 0, 0, 0]), given.get("strides", [1, 1])
    groups, dilations = given.get("group", 1), given.get("dilations", [1, 1])
    if node.op_type == "ConvTranspose":
        return functional.conv_transpose2d(x, weight, None, strides, pads[:2], 0, groups, dilations)
    padded = functional.pad(x, (pads[1], pads[3], pads[0], pads[2]))
    return functional.conv2d(padded, weight, None, strides, 0, dilations, groups)


def _recorded(graph: Path, tensors: Sequence[str], samples: Sequence[Sample]) -> Iterator[dict[str, NDArray[Any]]]:
    """The values of tensors of the graph for each sample."""
    import onnxruntime

    onnx = _onnx()
    model = onnx.load(graph)
    known = {one.name for one in (*model.graph.input, *model.graph.output)}
    names = sorted(set(tensors))
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names if name not in known)
    inputs = [name for name in names if name in {one.name for one in model.graph.input}]
    wanted = [name for name in names if name not in inputs]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    for sample in samples:
        values = dict(zip(wanted, session.run(wanted, dict(sample)), strict=True))
        yield values | {name: sample[name] for name in inputs}


def _quantised(graph: Any, kept: Collection[str]) -> list[str]:
    """Names of the nodes that are quantised: layers, and what lies between them."""
    weighted = {node.name for node in _weighted(graph)} - set(kept)
    made = set[str]()  # tensors in 8 bits
    out = []
    for node in graph.node:
        if node.name in weighted or (node.op_type in BETWEEN and all(name in made for name in node.input)):
            made.update(node.output)
            out.append(node.name)
    return out


def _weighted(graph: Any) -> Iterator[Any]:
    """Nodes with constant weights."""
    constants = {one.name for one in graph.initializer}
    return (node for node in graph.node if node.op_type in LAYERS and node.input[1] in constants)


def _quantization() -> Any:
    try:
        import onnxruntime.quantization
    except ImportError as error:
        raise MissingExtraError("onnxruntime", "onnx", "Writing a file in INT8") from error
    return onnxruntime.quantization


def _onnx() -> Any:
    import onnx

    return onnx
