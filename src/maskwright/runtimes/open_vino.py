"""OpenVINO on the processor."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskwright.errors import MissingExtraError, WeightsError
from maskwright.runtimes.header import KEY
from maskwright.runtimes.runtime import Values


def imported(purpose: str) -> Any:
    """The package. MissingExtraError where it is not installed."""
    try:
        import openvino
    except ImportError as error:
        raise MissingExtraError("openvino", "openvino", purpose) from error
    return openvino


class OpenVino:
    """An `.xml` file and the `.bin` beside it in OpenVINO; see `runtime.Runtime`.

    Computes in float32 also where the processor has bf16, which OpenVINO would take by itself.
    """

    name = "OpenVINO"

    def __init__(self, path: Path, threads: int) -> None:
        core = imported(f"Running {path}").Core()
        if not path.with_suffix(".bin").is_file():
            raise WeightsError(f"{path} has no weights: {path.with_suffix('.bin')} should lie beside it. Copy it too.")
        try:
            model = core.read_model(path)
            settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
            self.compiled: Any = core.compile_model(model, "CPU", settings)
        except Exception as error:
            reason = " ".join(str(error).split())[:300]
            raise WeightsError(f"{path} cannot be opened by OpenVINO: {reason} Export or copy it again.") from error
        self.header: str | None = str(model.get_rt_info([KEY]).value) if model.has_rt_info([KEY]) else None
        self._inputs = [one.get_any_name() for one in self.compiled.inputs]
        self._outputs = [one.get_any_name() for one in self.compiled.outputs]

    def run(self, image: NDArray[np.float32], size: NDArray[np.int64]) -> Values:
        given = {"images": image, "size": size}
        values = self.compiled([given[name] for name in self._inputs])
        return {name: np.array(values[i]) for i, name in enumerate(self._outputs)}
