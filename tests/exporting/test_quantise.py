"""A graph in 8 bits: what is quantised, what stays, and how the error of a layer is computed."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from maskwright.exporting import quantise as quantising
from maskwright.exporting.quantise import by_error, layers, quantise

pytestmark = pytest.mark.usefixtures("one_thread")

RNG = np.random.default_rng(0)

SHAPES = {
    "conv": ("Conv", (6, 4, 3, 3), {"pads": [1, 0, 2, 1], "strides": [2, 1]}),
    "groups": ("Conv", (6, 2, 3, 3), {"group": 2, "dilations": [2, 2], "pads": [2, 2, 2, 2]}),
    "transposed": ("ConvTranspose", (4, 5, 2, 2), {"strides": [2, 2]}),
}


def graph_of(path: Path, nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], shape: list[int]) -> Path:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9), path)
    return path


def chain(path: Path) -> Path:
    """Three convolutions, the second with weights of very different sizes in one output channel; a residual sum."""
    weights = {f"w{i}": RNG.normal(0, 0.3, (4, 4, 3, 3)) for i in range(3)}
    weights["w1"][0, 0, 0, 0] = 60.0
    pads = {"pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["images", "w0"], ["a"], "first", **pads),
        helper.make_node("Relu", ["a"], ["b"], "relu"),
        helper.make_node("Conv", ["b", "w1"], ["c"], "second", **pads),
        helper.make_node("Add", ["b", "c"], ["d"], "sum"),
        helper.make_node("Conv", ["d", "w2"], ["e"], "third", **pads),
        helper.make_node("Exp", ["e"], ["f"], "exp"),
        helper.make_node("Add", ["e", "f"], ["out"], "last"),
    ]
    return graph_of(path, nodes, weights, [1, 4, 12, 12])


def samples(count: int, shape: tuple[int, ...] = (1, 4, 12, 12)) -> list[dict[str, np.ndarray]]:
    return [{"images": RNG.normal(0, 1, shape).astype(np.float32)} for _ in range(count)]


def types_of(path: Path) -> dict[str, list[str]]:
    """Of each node the operators that make its inputs."""
    graph = onnx.load(path).graph
    made = {name: node.op_type for node in graph.node for name in node.output}
    return {node.name: [made.get(name, "") for name in node.input] for node in graph.node}


def test_layers_and_what_lies_between_are_quantised(tmp_path: Path) -> None:
    graph = chain(tmp_path / "g.onnx")
    assert layers(graph) == ["first", "second", "third"]
    quantise(graph, tmp_path / "q.onnx", samples(3))
    inputs = types_of(tmp_path / "q.onnx")
    assert all(set(inputs[name]) == {"DequantizeLinear"} for name in ("first", "second", "third", "sum"))
    assert "Exp" in inputs["last"], "a sum with a value that is not in 8 bits stays in float32"


def test_a_layer_that_is_kept_has_its_own_weights(tmp_path: Path) -> None:
    graph = chain(tmp_path / "g.onnx")
    quantise(graph, tmp_path / "q.onnx", samples(3), ["second"])
    assert types_of(tmp_path / "q.onnx")["second"][1] == ""
    kept = {one.name: numpy_helper.to_array(one) for one in onnx.load(tmp_path / "q.onnx").graph.initializer}
    assert kept["w1"].dtype == np.float32


def test_weights_have_seven_bits_and_a_scale_for_each_channel(tmp_path: Path) -> None:
    """Weights of 8 bits overflow the 16-bit sums of processors without VNNI, which then find something else."""
    quantise(chain(tmp_path / "g.onnx"), tmp_path / "q.onnx", samples(3))
    values = {one.name: numpy_helper.to_array(one) for one in onnx.load(tmp_path / "q.onnx").graph.initializer}
    weights = [value for name, value in values.items() if value.dtype == np.int8 and value.ndim == 4]
    assert len(weights) == 3
    assert max(int(np.abs(value.astype(int)).max()) for value in weights) <= 64
    assert values["w0_scale"].shape == (4,)


def test_it_computes_nearly_the_same(tmp_path: Path) -> None:
    graph, given = chain(tmp_path / "g.onnx"), samples(4)
    quantise(graph, tmp_path / "q.onnx", given, ["second"])
    run = [onnxruntime.InferenceSession(path).run(["e"], given[0])[0] for path in with_output("e", graph, tmp_path)]
    assert np.abs(run[0] - run[1]).max() < 0.1 * np.abs(run[0]).max()


def with_output(name: str, graph: Path, folder: Path) -> list[bytes]:
    out = []
    for path in (graph, folder / "q.onnx"):
        model = onnx.load(path)
        model.graph.output.append(helper.make_empty_tensor_value_info(name))
        out.append(model.SerializeToString())
    return out


def test_the_layer_that_loses_most_comes_first(tmp_path: Path) -> None:
    assert by_error(chain(tmp_path / "g.onnx"), samples(2), samples(2))[0] == "second"


@pytest.mark.parametrize("name", SHAPES)
def test_a_layer_is_computed_as_the_runtime_does(tmp_path: Path, name: str) -> None:
    kind, shape, attributes = SHAPES[name]
    node = helper.make_node(kind, ["images", "w"], ["out"], "layer", **attributes)
    weight = RNG.normal(0, 1, shape).astype(np.float32)
    graph = graph_of(tmp_path / "g.onnx", [node], {"w": weight}, [1, 4, 9, 8])
    given = samples(1, (1, 4, 9, 8))[0]
    expected = onnxruntime.InferenceSession(graph).run(None, given)[0]
    got = quantising._apply(node, *(quantising.torch.from_numpy(v) for v in (given["images"], weight)))
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("transposed", [0, 1])
def test_a_product_is_computed_as_the_runtime_does(tmp_path: Path, transposed: int) -> None:
    node = helper.make_node("Gemm", ["images", "w"], ["out"], "layer", transB=transposed)
    weight = RNG.normal(0, 1, (5, 7) if transposed else (7, 5)).astype(np.float32)
    graph = graph_of(tmp_path / "g.onnx", [node], {"w": weight}, [3, 7])
    given = samples(1, (3, 7))[0]
    expected = onnxruntime.InferenceSession(graph).run(None, given)[0]
    got = quantising._apply(node, *(quantising.torch.from_numpy(v) for v in (given["images"], weight)))
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-4, atol=1e-4)
