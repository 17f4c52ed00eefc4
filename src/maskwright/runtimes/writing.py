"""Writing an exported file from the ONNX file that every kind is made of."""

from pathlib import Path
from typing import Any

from maskwright.errors import ConfigError, MissingExtraError
from maskwright.runtimes.header import KEY
from maskwright.runtimes.open_vino import imported


def save_onnx(source: Path, target: Path, header: str) -> None:
    """The same with the header in its `metadata_props`."""
    onnx = onnx_package(f"Writing {target.name}")
    model = onnx.load(source)
    onnx.helper.set_model_props(model, {KEY: header})
    onnx.save(model, target)


def save_openvino(source: Path, target: Path, header: str) -> None:
    """As OpenVINO's `.xml`, with the header in its `rt_info`, and `.bin`."""
    openvino = imported(f"Writing {target.name}")
    core = openvino.Core()
    from openvino.frontend.onnx import ConversionExtension

    core.add_extension(ConversionExtension("DeformConv", _deformable))
    try:
        model = core.read_model(source)
    except Exception as error:
        reason = " ".join(str(error).split())[:500]
        raise ConfigError(f"OpenVINO cannot take this network: {reason} Export it to onnx.") from error
    model.set_rt_info(header, [KEY])
    openvino.save_model(model, target, compress_to_fp16=False)


def onnx_package(purpose: str) -> Any:
    """The package `onnx`. MissingExtraError where it is not installed."""
    try:
        import onnx
    except ImportError as error:
        raise MissingExtraError("onnx", "onnx", purpose) from error
    return onnx


def _deformable(node: Any) -> Any:
    """OpenVINO's own form of ONNX's DeformConv, which its reader of ONNX files does not know."""
    from openvino import opset8 as ops

    image, weight, offsets, bias, factors = (node.get_input(i) for i in range(5))
    out = ops.deformable_convolution(
        image,
        offsets,
        weight,
        node.get_attribute("strides"),
        node.get_attribute("pads")[:2],
        node.get_attribute("pads")[2:],
        node.get_attribute("dilations"),
        mask=factors,
        group=1,
        deformable_group=1,
        bilinear_interpolation_pad=True,
    )
    shape = ops.constant([1, -1, 1, 1], dtype="int64")
    return ops.add(out, ops.reshape(bias, shape, special_zero=False)).outputs()
