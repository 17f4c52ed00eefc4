"""Where and how a run computes: device, precision, processes, random numbers."""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from maskwright.codec import Section, open_field, ranged
from maskwright.errors import ConfigError
from maskwright.fast.bf16 import bf16_is_fast, require_bf16

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class ComputeSettings(Section):
    """The machine's part.

    device: "auto" takes a CUDA device where there is one. precision: "bf16" and "fp16" (CUDA only) run the network in
    it; weights, losses and the choice of samples stay float32. seed: of order, variations and random weights.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["float32", "bf16", "fp16"] = open_field("float32")
    seed: int = ranged(0, low=0, high=2**63 - 1)

    @property
    def on_gpu(self) -> bool:
        """Whether the run computes on a CUDA device."""
        return self.device != "cpu" and torch.cuda.is_available()


@dataclass(frozen=True)
class Device:
    """Where a run computes: "cpu" or "cuda", memory in MB, cores, whether bf16 is fast, how many processes."""

    kind: str
    megabytes: float = 0.0
    cores: int = 1
    bf16: bool = False
    processes: int = 1

    @staticmethod
    def find(settings: ComputeSettings) -> "Device":
        cores, processes = os.cpu_count() or 1, int(os.environ.get("WORLD_SIZE", "1"))  # torchrun sets the latter
        if not settings.on_gpu:
            return Device("cpu", 0.0, cores, bf16_is_fast(torch.device("cpu")), processes)
        memory = torch.cuda.get_device_properties(0).total_memory / 1e6
        return Device("cuda", memory, cores, bf16_is_fast(torch.device("cuda")), processes)


def accelerator(settings: ComputeSettings) -> "Accelerator":
    """Accelerate's handle of device, precision and processes, set up afresh: it keeps its state between runs."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    if settings.device == "cuda" and not settings.on_gpu:
        raise ConfigError("device is 'cuda', but this machine has no usable CUDA device.")
    if settings.precision == "fp16" and not settings.on_gpu:
        raise ConfigError("precision 'fp16' needs a CUDA device; on this one use 'bf16' or 'float32'.")
    if settings.precision == "bf16" and not settings.on_gpu:
        require_bf16(torch.device("cpu"))
    AcceleratorState._reset_state(reset_partial_state=True)
    mixed = "no" if settings.precision == "float32" else settings.precision
    return Accelerator(cpu=not settings.on_gpu, mixed_precision=mixed)
