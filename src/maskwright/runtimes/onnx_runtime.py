"""ONNX Runtime on the processor."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskwright.errors import MissingExtraError, WeightsError
from maskwright.runtimes.header import KEY
from maskwright.runtimes.runtime import Values


class OnnxRuntime:
    """An `.onnx` file in ONNX Runtime; see `runtime.Runtime`."""

    name = "ONNX Runtime"

    def __init__(self, path: Path, threads: int) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingExtraError("onnxruntime", "onnx", f"Running {path}") from error
        onnxruntime.disable_telemetry_events()
        options: Any = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3  # errors; they are raised as well
        try:
            self.session: Any = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # it has a type of its own for each fault
            reason = str(error).splitlines()[0][:300]
            raise WeightsError(f"{path} cannot be opened by ONNX Runtime: {reason} Export or copy it again.") from error
        self.header: str | None = self.session.get_modelmeta().custom_metadata_map.get(KEY)
        self._inputs = {one.name for one in self.session.get_inputs()}
        self._outputs = [one.name for one in self.session.get_outputs()]

    def run(self, image: NDArray[np.float32], size: NDArray[np.int64]) -> Values:
        given = {"images": image, "size": size}
        values = self.session.run(None, {name: given[name] for name in self._inputs})
        return dict(zip(self._outputs, values, strict=True))
