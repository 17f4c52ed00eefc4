"""Training runs that kill themselves without warning, for `test_kill.py`.

`doomed.py FOLDER NAME...`: one run after the other, each in a process of its own; a name is WHERE:WORKERS or
WHERE:WORKERS:METHOD, the way in which workers are started. The exit codes go to stdout, which stays open as long as a
worker lives.
"""

import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

import torch
from safetensors.torch import save_file
from tests.training.test_train import Tiny, make_config, make_model

from maskwright.data.dataset import Dataset
from maskwright.data.formats import coco
from maskwright.models.base import Model
from maskwright.training import checkpoint
from maskwright.training.config import TrainConfig

WHERE = ("in a step", "between steps", "writing the state", "renaming the state", "in an evaluation", "saving the best")


def data_of(folder: Path) -> Dataset:
    return coco.load(folder / "data" / "annotations.json", folder / "data" / "images")


def config_of(folder: Path, name: str, **changes: Any) -> TrainConfig:
    """Seven images, batches of 3: three steps an epoch, twelve in all."""
    return make_config(folder / name, **changes)


def measure(model: Model, data: Dataset) -> dict[str, float]:
    """Rises, so that each evaluation brings new best weights."""
    return {"AP": float(model.layers[1].num_batches_tracked)}  # type: ignore[index, union-attr, arg-type]


def save(model: Model, path: Path, metrics: Any) -> None:
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, path)


def die(*_: Any) -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("still alive")


def set_trap(where: str) -> None:
    """Have the run die in its sixth step or at what follows it, the second end of an epoch."""
    terms, write, model = Tiny.terms, checkpoint.torch.save, {"calls": 0}

    def counting(self: Tiny, *args: Any) -> Any:
        model["calls"] = self.calls + 1
        if where == "in a step" and model["calls"] == 6:
            die()
        return terms(self, *args)

    def half(content: Any, stream: Any) -> None:
        write(content, stream)
        if where == "writing the state" and model["calls"] >= 6:
            stream.truncate(stream.tell() // 2)
            die()

    replace = os.replace

    def before_rename(source: Any, target: Any) -> None:
        if where == "renaming the state" and model["calls"] >= 6 and str(target).endswith(".state"):
            die()
        replace(source, target)

    Tiny.terms, checkpoint.torch.save, os.replace = counting, half, before_rename  # type: ignore[method-assign]


def run(folder: Path, name: str) -> None:
    """Train into a folder of this name."""
    from maskwright.training import fit as loop

    where, workers, *method = name.split(":")
    if method:
        torch.multiprocessing.set_start_method(method[0])
    set_trap(where)
    model, step = make_model(), loop.train_step

    def evaluate(shown: Model, data: Dataset) -> dict[str, float]:
        if where == "in an evaluation" and model.calls >= 6:
            die()
        if where == "losing a worker":
            os.kill(torch.multiprocessing.active_children()[0].pid, signal.SIGKILL)
        return measure(shown, data)

    def saving(shown: Model, path: Path, metrics: Any) -> None:
        if where == "saving the best" and model.calls >= 6:
            path.write_bytes(b"half")
            die()
        save(shown, path, metrics)

    def stepping(*args: Any) -> dict[str, float]:
        losses = step(*args)
        if where == "between steps" and model.calls == 5:
            die()
        return losses

    loop.train_step = stepping
    data = data_of(folder)
    config = config_of(folder, name, workers=int(workers), checkpoint_minutes=0)
    loop.fit(model, data, data, config, evaluate, saving)


def run_in_a_fork(folder: Path, name: str) -> int:
    """The process id; it ends with 0 where nothing killed it, 1 where an error did."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        run(folder, name)
        code = 0
    except Exception:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler would raise once more while this is written
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    torch.set_num_threads(1)
    place, codes = Path(sys.argv[1]), {}
    for name in sys.argv[2:]:
        _, status = os.waitpid(run_in_a_fork(place, name), 0)
        codes[name] = os.waitstatus_to_exitcode(status)
    print(json.dumps(codes))
