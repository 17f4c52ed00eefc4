"""What a `Predictor` runs: here a network in eager or fast form; `runtimes` has exported files, another `Detector`."""

from dataclasses import dataclass
from typing import Any, Protocol, Self

import torch

from maskwright.errors import ConfigError
from maskwright.fast.bf16 import bf16_is_fast, require_bf16
from maskwright.models.base import AnyModel, Config, VideoModel
from maskwright.models.family import accelerated
from maskwright.types import Classes, Inputs, InputSpec, Limits, OutputSpec, Part, RawDetections

DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16, "bfloat16": torch.bfloat16}

PRECISIONS = (*DTYPES, "auto")


class Detector(Protocol):
    """Something that finds instances in a batch.

    spec: how an image becomes its input. output: how its raw rows become instances. classes: their names. limits: which
    rows it reports by default. parts: kinds of parts it returns beside boxes. device, dtype: of its inputs. precision:
    what it computes in, "float32", "bf16" or "int8".
    """

    @property
    def spec(self) -> InputSpec: ...
    @property
    def output(self) -> OutputSpec: ...
    @property
    def classes(self) -> Classes: ...
    @property
    def limits(self) -> Limits: ...
    @property
    def parts(self) -> tuple[type[Part], ...]: ...
    @property
    def device(self) -> torch.device: ...
    @property
    def dtype(self) -> torch.dtype: ...
    @property
    def precision(self) -> str: ...

    def lowest_score(self, limits: Limits) -> float:
        """The lowest score that it reports under these limits."""

    def detect(self, inputs: Inputs, limits: Limits) -> RawDetections:
        """Raw detections of a batch on its device; ready when it returns."""


@dataclass(frozen=True, eq=False)
class NetworkDetector:
    """A network of the zoo, or a user's own, with the choices that it is used with; see `Detector`."""

    network: AnyModel
    classes: Classes
    spec: InputSpec
    limits: Limits
    device: torch.device
    dtype: torch.dtype

    @classmethod
    def of(
        cls,
        model: AnyModel,
        classes: Classes,
        *,
        spec: InputSpec | None = None,
        nms: str | None = None,
        device: str = "cpu",
        precision: str = "float32",
        take: bool = False,
    ) -> Self:
        """The fast form of a model, which stays as it is unless it is taken over (`take`).

        spec, nms: instead of its own. Raises ConfigError for a device, precision or kind of suppression that is unknown
        or cannot be used.
        """
        place, dtype = device_and_type(device, precision)
        limits = model.config.limits_for(nms)
        network = accelerated(model, take=take).to(place, dtype)
        return cls(network, classes, spec or model.config.spec, limits, place, dtype)

    @property
    def config(self) -> Config:
        config: Config = self.network.config
        return config

    @property
    def output(self) -> OutputSpec:
        return self.network.config.output

    @property
    def parts(self) -> tuple[type[Part], ...]:
        return self.network.config.parts

    def lowest_score(self, limits: Limits) -> float:
        return self.network.config.lowest_score(limits)

    @property
    def precision(self) -> str:
        """The name of its type."""
        return "bf16" if self.dtype == torch.bfloat16 else "float32"

    def trace(self, inputs: Inputs, limits: Limits) -> Any:
        """One pass with what each stage returned; its `raw` is what `detect` returns."""
        with torch.inference_mode():
            trace = self.network.trace(inputs, limits)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return trace

    def detect(self, inputs: Inputs, limits: Limits) -> RawDetections:
        raw: RawDetections = self.trace(inputs, limits).raw
        return raw

    @property
    def interval(self) -> int | None:
        """The interval of key frames in a video, in frames; None where nothing is carried from frame to frame."""
        return self.network.interval if isinstance(self.network, VideoModel) else None

    def follow(self, inputs: Inputs, state: Any, limits: Limits) -> tuple[RawDetections, Any]:
        """Raw detections of a video's next frame, and the state after it. state: None for a key frame."""
        if not isinstance(self.network, VideoModel):
            return self.detect(inputs, limits), None
        with torch.inference_mode():
            one = self.network.start(inputs, limits) if state is None else self.network.step(inputs, state, limits)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return one


def auto_device() -> str:
    """The device that "auto" means: "cuda" where torch finds a CUDA device, else "cpu".

    Apple's "mps" is not taken, and refused where it is asked for: it has no float64, in which boxes are compared.
    """
    return "cuda" if torch.cuda.is_available() else "cpu"


def device_and_type(device: str, precision: str) -> tuple[torch.device, torch.dtype]:
    """What a device's and a precision's name mean; ConfigError for one that is unknown or cannot be used here."""
    device = auto_device() if device == "auto" else device
    if precision not in PRECISIONS:
        raise ConfigError(f"precision is one of {sorted(PRECISIONS)}, got {precision!r}.", options=("precision",))
    try:
        place = torch.device(device)
        torch.empty(0, dtype=torch.float64, device=place)
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"The device '{device}' cannot be used here: {reason}", options=("device",)) from error
    if precision == "auto":
        precision = "bf16" if bf16_is_fast(place) else "float32"
    if DTYPES[precision] == torch.bfloat16:
        require_bf16(place)
    return place, DTYPES[precision]
