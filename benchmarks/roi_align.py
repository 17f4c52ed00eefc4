"""RoIAlign against torchvision's CPU kernel: time in alternating pairs, difference, and the limit set by the memory.

    python -m benchmarks.roi_align [--threads 2] [--pairs 9]

"floor" is the time to read every used feature cell once and to write the result once, at the copy bandwidth measured in
the same run. "taps" is the number of table rows summed per bin; the direct form needs 4 per sample.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
import torchvision
from torch import Tensor

from maskwright.ops import roi_align as ours

INPUT = (800, 1216)
PYRAMID = (4, 8, 16, 32)


class Load(NamedTuple):
    """One row of the table. sampling 2 with aligned False is torchvision's model, 0 with True detectron2's."""

    name: str
    boxes: int
    channels: int
    strides: tuple[int, ...]
    side: int
    sampling: int
    aligned: bool
    dtype: torch.dtype = torch.float32
    backward: bool = False


LOADS = (
    Load("FPN box head, sampling 2", 1000, 256, PYRAMID, 7, 2, False),
    Load("FPN box head, adaptive", 1000, 256, PYRAMID, 7, 0, True),
    Load("FPN mask head, sampling 2", 100, 256, PYRAMID, 14, 2, False),
    Load("FPN mask head, adaptive", 100, 256, PYRAMID, 14, 0, True),
    Load("C4 head, sampling 2", 300, 1024, (16,), 14, 2, False),
    Load("C4 head, adaptive", 300, 1024, (16,), 14, 0, True),
    Load("FPN box head, bf16 (*)", 1000, 256, PYRAMID, 7, 2, False, dtype=torch.bfloat16),
    Load("FPN box head, training", 512, 256, PYRAMID, 7, 2, False, backward=True),
)


def make_boxes(count: int) -> Tensor:
    """Boxes with log-uniform sides of 12 to 700 px and aspects of 1:2 to 2:1, anywhere in the input."""
    generator = torch.Generator().manual_seed(0)
    rand = torch.rand(4, count, generator=generator)
    side, aspect = 12 * (700 / 12) ** rand[0], torch.exp((rand[1] - 0.5) * math.log(4))
    width, height = (side * aspect.sqrt()).clamp(max=INPUT[1]), (side / aspect.sqrt()).clamp(max=INPUT[0])
    x, y = rand[2] * (INPUT[1] - width), rand[3] * (INPUT[0] - height)
    return torch.stack([x, y, x + width, y + height], 1)


def level_of(boxes: Tensor, count: int) -> Tensor:
    """Feature Pyramid Networks, equation 1, for levels 2..5; all 0 if there is one level."""
    side = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sqrt()
    return (
        (4 + torch.log2(side / 224 + 1e-8)).floor().clamp(2, 5).long() - 2
        if count > 1
        else torch.zeros(len(boxes)).long()
    )


def torchvision_way(maps: list[Tensor], boxes: Tensor, levels: Tensor, load: Load) -> Tensor:
    """torchvision's MultiScaleRoIAlign: one call per level, results scattered to their rows."""
    rois = torch.cat([torch.zeros(len(boxes), 1), boxes], 1)
    out = torch.zeros(len(boxes), load.channels, load.side, load.side)
    for level, (feature, stride) in enumerate(zip(maps, load.strides, strict=True)):
        own = torch.where(levels == level)[0]
        out[own] = torchvision.ops.roi_align(feature, rois[own], load.side, 1 / stride, load.sampling, load.aligned)
    return out


def pairs(one: Callable[[], object], other: Callable[[], object], count: int) -> tuple[float, float, float, float]:
    """Median ms of both, alternating, and median ratios one / other of wall time and of CPU time; about 5 s in all.

    The ratio of CPU time is what the ratio of wall time would be on an otherwise idle machine.
    """
    times: list[tuple[float, ...]] = []
    while len(times) < count and (len(times) < 3 or sum(t[0] + t[1] for t in times) < 5):
        wall, processor = [time.perf_counter()], [time.process_time()]
        for work in (one, other):
            work()
            wall.append(time.perf_counter())
            processor.append(time.process_time())
        times.append(tuple(clock[n + 1] - clock[n] for clock in (wall, processor) for n in (0, 1)))
    a, b, ratio, effort = (
        statistics.median(v) for v in zip(*((t[0], t[1], t[0] / t[1], t[2] / t[3]) for t in times), strict=True)
    )
    return a * 1e3, b * 1e3, ratio, effort


def copy_bandwidth() -> float:
    """Bytes per second that a large copy reads and writes."""
    source, target = torch.ones(32 << 20), torch.zeros(32 << 20)
    best = math.inf
    for _ in range(8):
        start = time.perf_counter()
        target.copy_(source)
        best = min(best, time.perf_counter() - start)
    return 2 * source.nbytes / best


def traffic(load: Load, maps: list[Tensor], boxes: Tensor, levels: Tensor) -> tuple[float, int]:
    """Taps per bin, and the bytes that must be read or written at least once."""
    zeros, scales = torch.zeros(len(boxes)).long(), [1 / s for s in load.strides]
    plan = ours._plan(maps, boxes, zeros, levels, scales, load.side, load.sampling, load.aligned)
    bins = len(boxes) * load.side**2
    taps = cells = 0
    for level in {g.level for g in plan.groups}:
        row = ours._matrix(plan, [g for g in plan.groups if g.level == level]).row
        taps, cells = taps + len(row), cells + len(set(row.tolist()))
    return taps / bins, (cells + bins) * load.channels * maps[0].element_size()


def measure(load: Load, count: int, bandwidth: float) -> str:
    """One line of the table."""
    generator = torch.Generator().manual_seed(0)
    sizes = [(load.channels, INPUT[0] // s, INPUT[1] // s) for s in load.strides]
    theirs = [torch.randn(1, *size, generator=generator) for size in sizes]
    maps = [m.to(load.dtype).contiguous(memory_format=torch.channels_last) for m in theirs]
    boxes, zeros, scales = make_boxes(load.boxes), torch.zeros(load.boxes).long(), [1 / s for s in load.strides]
    levels = level_of(boxes, len(maps))
    for m in (*theirs, *maps):
        m.requires_grad_(load.backward)

    def finish(result: Tensor, inputs: list[Tensor]) -> Tensor:
        return torch.autograd.grad(result.square().sum() / 2, inputs)[0] if load.backward else result

    def one() -> Tensor:
        return finish(torchvision_way(theirs, boxes, levels, load), theirs)

    def other() -> Tensor:
        args = (maps, boxes, zeros, levels, scales, load.side, load.sampling, load.aligned)
        return finish(ours.roi_align(*args), maps)

    difference = (one() - other().float()).abs().max().item()
    a, b, ratio, effort = pairs(one, other, count)
    taps, moved = traffic(load, maps, boxes, levels)
    floor = moved / bandwidth * 1e3 * (3 if load.backward else 1)  # the gradient is read, the maps' is written
    times = f"{load.name:28}{a:12.1f}{b:9.1f}{ratio:8.1f}{effort:7.1f}"
    return f"{times}{difference:12.1e}{taps:7.1f}{moved / 1e6:8.0f}{floor:9.1f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=9)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    bandwidth = copy_bandwidth()
    print(f"torch {torch.__version__}, {args.threads} threads, copy bandwidth {bandwidth / 1e9:.1f} GB/s; ms")
    print(
        f"{'load':28}{'torchvision':>12}{'ours':>9}{'ratio':>8}{'(cpu)':>7}{'difference':>12}{'taps':>7}{'MB':>8}{'floor':>9}"
    )
    for load in LOADS:
        print(measure(load, args.pairs, bandwidth), flush=True)
    print("(*) torchvision's kernel has no bfloat16 form that is faster: it is timed in float32 there.")


if __name__ == "__main__":
    main()
