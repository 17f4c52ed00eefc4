"""The processes that train one model together: what they add up, agree on, and how they end together.

torchrun starts them, Accelerate connects them. Each computes its share of every batch; losses and gradients are added
up by hand, in one message a step, because that is exact: each process has already divided its sums by the counts of
all, so the gradients simply add, also where a process had no image. DistributedDataParallel averages with equal
weights instead, hides the message in hooks, and needs every parameter used everywhere.
"""

import atexit
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from maskwright.errors import MaskwrightError, TrainingError
from maskwright.ops.losses import Term
from maskwright.samples.loader import Batch

T = TypeVar("T")

LONGEST_WAIT = timedelta(days=7)
"""How long a process waits for another that is alive: one evaluates or writes while the others wait."""


def is_first() -> bool:
    """Whether this process is the one that prints and writes files; known before the processes are connected."""
    return int(os.environ.get("RANK", "0")) == 0


def is_one_of_several() -> bool:
    """Whether torchrun started other processes beside this one."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def saved(state: Path | None) -> str:
    """What a run that ended can go on from: its state file, where that was written yet. None: it is not known."""
    if state is None:
        return "A state that was saved before is intact."
    if state.exists():
        return f"{state} was saved before; start the run again with resume to go on from it."
    return (
        f"There is no {state} yet: the first is written after checkpoint_minutes or before the first evaluation. "
        f"Start the run anew, without resume."
    )


def _disconnect() -> None:
    """End the connection before the interpreter ends: threads that it finds still running abort the process."""
    if dist.is_initialized():
        dist.destroy_process_group()


class Team:
    """The processes of one run, connected before; alone, every method gives back what it was given.

    state: file of the run's state, which the message names when a process is lost.
    """

    def __init__(self, state: Path | None = None) -> None:
        self.state = state
        self.count = dist.get_world_size() if dist.is_initialized() else 1
        self.rank = dist.get_rank() if self.count > 1 else 0
        self.first = self.rank == 0
        if self.count > 1:
            talk = dist.new_group(backend="gloo", timeout=LONGEST_WAIT)
            assert isinstance(talk, dist.ProcessGroup)
            self._talk = talk
            self._places = self.gather((socket.gethostname(), os.getpid()))

    def from_first(self, work: Callable[[], T]) -> T:
        """What `work` gives in the first process, in all of them. Where it fails, all fail."""
        if self.count == 1:
            return work()
        box: list[T | str | None] = [None, None]
        failure: MaskwrightError | None = None
        if self.first:
            try:
                box[0] = work()
            except MaskwrightError as error:
                failure, box[1] = error, str(error)
        with self.together():
            dist.broadcast_object_list(box, group=self._talk, group_src=0, device=torch.device("cpu"))
        if failure is not None:
            raise failure
        if box[1] is not None:
            raise TrainingError(f"Process 0 of {self.count} ended the run: {box[1]}")
        return box[0]  # type: ignore[return-value]

    def gather(self, value: T) -> list[T]:
        """The value of every process, in order."""
        if self.count == 1:
            return [value]
        values: list[T] = [value] * self.count
        with self.together():
            dist.all_gather_object(values, value, group=self._talk)
        return values

    def largest(self, *values: float) -> list[float]:
        """The largest of each value over the processes."""
        if self.count == 1:
            return list(values)
        row = torch.tensor(values, dtype=torch.float64)
        with self.together():
            dist.all_reduce(row, dist.ReduceOp.MAX, group=self._talk)
        return row.tolist()

    def add(self, values: Tensor) -> Tensor:
        """The sum over the processes, in place of `values`."""
        if self.count > 1:
            with self.together():
                dist.all_reduce(values, group=self._talk if values.device.type == "cpu" else None)
        return values

    def same_size(self, batch: Batch) -> Batch:
        """The batch padded to the largest of all processes: what one process with all the images would see."""
        if self.count > 1:
            height, width = batch.images.shape[-2:]
            high, wide = (int(side) for side in self.largest(height, width))
            batch.images = F.pad(batch.images, (0, wide - width, 0, high - height))
        return batch

    def divide(self, terms: Mapping[str, Term]) -> tuple[dict[str, Tensor], dict[str, float]]:
        """This process's part of each loss, and the whole losses as numbers."""
        totals = torch.stack([term.total.detach().double() for term in terms.values()])
        counts = totals.new_tensor([term.count for term in terms.values()])
        totals, counts = self.add(torch.cat([totals, counts])).cpu().chunk(2)
        counts = counts.clamp(min=1)
        parts = {name: term.total / count for (name, term), count in zip(terms.items(), counts.tolist(), strict=True)}
        return parts, dict(zip(terms, (totals / counts).tolist(), strict=True))

    @torch.no_grad()
    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Each gradient becomes its sum over the processes; what no process has stays None."""
        if self.count == 1:
            return
        learnt = [p for p in parameters if p.requires_grad]
        zeros = (torch.zeros_like(p) if p.grad is None else p.grad for p in learnt)
        seen = torch.tensor([float(p.grad is not None) for p in learnt], device=learnt[0].device)
        flat = self.add(torch.cat([seen, *(g.reshape(-1).float() for g in zeros)]))
        seen, *grads = flat.split([len(learnt), *(p.numel() for p in learnt)])
        for p, grad, anywhere in zip(learnt, grads, seen.tolist(), strict=True):
            if anywhere:
                p.grad = torch.empty_like(p).copy_(grad.view_as(p))

    def same_weights(self, model: nn.Module) -> None:
        """Every process takes the first one's weights and norm statistics."""
        if self.count > 1:
            with self.together():
                for value in model.state_dict().values():
                    dist.broadcast(value, 0, group=self._talk if value.device.type == "cpu" else None)

    def leave(self) -> None:
        """Wait for the others at the end of a run that went well. They stay connected for the next run."""
        if self.count > 1:
            self.gather(None)
            dist.destroy_process_group(self._talk)
            atexit.unregister(_disconnect)
            atexit.register(_disconnect)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Turns the failure of a message into an error that names the process that ended."""
        try:
            yield
        except RuntimeError as error:
            failed = isinstance(error, dist.DistError) or "gloo" in str(error) or "NCCL" in str(error)
            if self.count == 1 or not failed:
                raise
            raise TrainingError(self._who_ended(error)) from error

    def _who_ended(self, error: Exception) -> str:
        here, until, ended = socket.gethostname(), time.monotonic() + 3, list[str]()
        while not ended and time.monotonic() < until:
            ended = [f"process {r} (pid {pid})" for r, (host, pid) in enumerate(self._places)
                     if host == here and r != self.rank and not _alive(pid)]  # fmt: skip
            time.sleep(0.05)
        what = f"{' and '.join(ended)} ended" if ended else f"another process stopped answering ({error})"
        return (
            f"Training stopped in process {self.rank} of {self.count}: {what}. Its own message, or the system's log "
            f"where it was killed, says why. {saved(self.state)}"
        )


def _alive(pid: int) -> bool:
    """Whether a process of this machine runs; one that ended but was not yet collected does not."""
    status = Path(f"/proc/{pid}/stat")
    if status.parent.parent.exists() and Path("/proc/self/stat").exists():
        try:
            return status.read_text().rpartition(")")[2].split()[0] not in "ZX"
        except OSError:
            return False
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True
