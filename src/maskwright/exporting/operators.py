"""Operators of our graphs that torch's ONNX exporter does not know, or writes in a form that runtimes are slow with.

Letters: N boxes, G groups, M chosen boxes.
"""

from typing import Any

import numpy as np
import torch

OPSET = 19
"""Of the ONNX files: the first with DeformConv."""

FLOAT, INT64, BOOL = 1, 7, 9
"""ONNX's numbers of these types."""


def _operators() -> Any:
    """ONNX's operators of `OPSET`, which write themselves into the graph when they are called."""
    import onnxscript

    return getattr(onnxscript, f"opset{OPSET}")


def translations() -> dict[Any, Any]:
    """What `torch.onnx.export` takes as `custom_translation_table`."""
    import maskwright.ops.nms  # noqa: F401  defines the operator

    return {torch.ops.maskwright.survivors.default: survivors, torch.ops.aten.sort.stable: sort_stable}


def survivors(boxes: Any, scores: Any, groups: Any, iou: float, inclusive: bool) -> Any:
    """`ops.nms.survivors` by NonMaxSuppression. IoUs are compared in float32, from the boxes as they are.

    That operator takes scores of one class each, and some runtimes leave out scores that are not positive. So boxes are
    put in order first, and their rank from behind, 1 to N, is the score in the row of their group, 0 in the others.
    """
    op = _operators()
    zero, one = op.Constant(value_int=0), op.Constant(value_int=1)
    count = op.Shape(scores)
    _, order = op.TopK(op.Cast(scores, to=FLOAT), count, largest=1, sorted=1)
    groups = op.Gather(groups, order)  # (N,)
    ranks = op.Cast(op.Range(op.Squeeze(count), zero, op.Constant(value_int=-1)), to=FLOAT)
    every = op.Range(zero, op.Add(op.ReduceMax(groups, keepdims=0), one), one)  # (G,)
    own = op.Cast(op.Equal(op.Unsqueeze(every, [1]), op.Unsqueeze(groups, [0])), to=FLOAT)  # (G, N)
    by_group = op.Unsqueeze(op.Mul(own, op.Unsqueeze(ranks, [0])), [0])  # (1, G, N)
    limit = np.float32(iou)
    if inclusive:
        limit = np.nextafter(limit, np.float32(-np.inf))
    sorted_boxes = op.Unsqueeze(op.Cast(op.Gather(boxes, order), to=FLOAT), [0])  # (1, N, 4)
    chosen = op.NonMaxSuppression(sorted_boxes, by_group, count, [float(limit)], [0.5])  # (M, 3)
    rows = op.Gather(order, op.Gather(chosen, op.Constant(value_int=2), axis=1))  # (M,)
    marks = op.Expand(one, op.Shape(rows))
    return op.Cast(op.ScatterND(op.Expand(zero, count), op.Unsqueeze(rows, [1]), marks), to=BOOL)


def sort_stable(values: Any, stable: bool | None = None, dim: int = -1, descending: bool = False) -> Any:
    """A stable sort by TopK of all values, which puts equal ones in the order of their place."""
    op = _operators()
    count = op.Gather(op.Shape(values), op.Constant(value_ints=[dim]))
    return op.TopK(values, count, axis=dim, largest=1 if descending else 0, sorted=1)
