"""Damaged checkpoints: a sound file of a tiny network with one to three faults in its header, tensors or bytes.

python -m tests.fuzz.checkpoints --count 2000 --seed 1        by hand; each must be read, or refused by an error of ours
"""

import argparse
import copy
import io
import json
import pickle
import resource
import struct
import sys
import tempfile
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from tests.fuzz.run import Hang, alarm

from maskwright.errors import MaskwrightError
from maskwright.models import zoo
from maskwright.models.family import FAMILIES, build
from maskwright.predictor.load import load
from maskwright.types import Classes
from maskwright.weights.files import KEY, read

VALUES: tuple[Any, ...] = (
    *(0, 1, -1, 2, 3, 7, 64, 255, 2**16, 2**31, 2**40, 2**63, 10**30, 10**400, 0.5, 1e-320, 1e300, -0.0, True, False),
    *(None, float("nan"), float("inf"), float("-inf"), "", "0", "x", "a\nb", "\u0000", "x" * 100_000, "resnet50"),
    *([], [[]], [0], [1.0], [-1.0, 2.0], [[32.0, "x"]], [[32.0]] * 9, [8] * 50, {}, {"a": 1}, [None], ["a", "a"]),
)  # fmt: skip
"""What may stand in place of a value of a header."""


def sound() -> list[tuple[dict[str, Any], dict[str, torch.Tensor]]]:
    """Header and tensors of each family's tiny networks."""
    found = []
    for family in FAMILIES.values():
        for config in family.tiny().values():
            torch.manual_seed(0)
            classes = Classes([f"c{i}" for i in range(config.num_classes)])
            state = build(config).state_dict()
            found.append((zoo.describe(config, classes, "tiny"), dict(state)))
    return found


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list | tuple) else ()
    return [place for key in keys for place in [(*path, key), *_places(value[key], (*path, key))]]


def damaged_header(header: dict[str, Any], rng: Random) -> str:
    """The header as JSON with some values replaced, left out, repeated or added."""
    header, wild = json.loads(json.dumps(header)), rng.random() < 0.5
    for _ in range(rng.randint(1, 3)):
        *way, last = rng.choice(_places(header))
        inner = header
        for key in way:
            inner = inner[key]
        change = rng.choice((0, 1, 2, 3, 4, 5) if wild else (2, 3, 6))
        if change == 0 and isinstance(inner, dict):
            del inner[last]
        elif change == 1 and isinstance(inner, dict):
            inner[str(rng.choice(VALUES))[:20]] = rng.choice(VALUES)
        elif change == 2 and isinstance(inner, list):
            inner += inner * rng.randint(1, 3)
        elif change == 3 and type(inner[last]) in (int, float):
            inner[last] = type(inner[last])(inner[last] * rng.choice((-1, 0.5, 2, 3, 1000)) + rng.choice((0, 0, 1)))
        elif change == 6 and isinstance(inner[last], bool):
            inner[last] = not inner[last]
        elif change == 6 and isinstance(inner, list):
            del inner[last]
        elif wild:
            inner[last] = copy.deepcopy(rng.choice(VALUES))
    text = json.dumps(header)
    deep = rng.choice((50, 900, 100_000))
    return text if rng.random() < 0.95 else text.replace('"tiny"', rng.choice(("[" * deep, "[" * deep + "]" * deep)))


def damaged_tensors(state: dict[str, torch.Tensor], rng: Random) -> dict[str, Any]:
    """The tensors with some of other types, shapes, kinds or names."""
    state = dict(state)
    for _ in range(rng.randint(1, 3)):
        name = rng.choice([n for n in state if isinstance(n, str)])
        old = state[name] if isinstance(state[name], torch.Tensor) else torch.zeros(3)
        changes: list[Callable[[], Any]] = [
            lambda old=old: old.float().to(torch.float8_e4m3fn), lambda old=old: old.to(torch.complex64),
            lambda old=old: old.long(), lambda old=old: old.double(), lambda old=old: old * float("nan"),
            lambda old=old: old.flatten(), lambda old=old: old[None], lambda old=old: old.reshape(-1)[:0],
            lambda: torch.zeros(()), lambda: torch.zeros(1).expand(2**20, 2**20),
            lambda: torch.empty(2**30, 2**20, device="meta"), lambda: torch.eye(3).to_sparse(),
            lambda: torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]),
            lambda: torch.quantize_per_tensor(torch.zeros(3), 0.1, 0, torch.qint8),
            lambda: np.float64(3), lambda: None, lambda: "x", lambda: {"a": torch.zeros(1)}, lambda: [1] * 1000,
        ]  # fmt: skip
        state[rng.choice([name, name, "x" * 5000, "a\nb"])] = rng.choice(changes)()
    return state


def with_header(tensors: dict[str, torch.Tensor], header: str) -> bytes:
    """A .safetensors file."""
    return save({name: t.contiguous().clone() for name, t in tensors.items()}, metadata={KEY: header})


def _pickled(state: dict[str, Any], rng: Random) -> bytes:
    """A pickle as detectron2 has it, or one whose parts hold each other many times or lie deep in each other."""
    arrays = {str(k): v.numpy() if isinstance(v, torch.Tensor) and _has_array(v) else v for k, v in state.items()}
    for k, v in list(arrays.items()):
        if isinstance(v, torch.Tensor):
            del arrays[k]
    kind = rng.randrange(5)
    depth = rng.choice((5, 30, 3000, 1_000_000))
    if kind == 0:
        inner: Any = {}
        for _ in range(min(depth, 60)):
            inner = {"a": inner, "b": inner}
        return pickle.dumps({"model": inner}, 2)
    if kind == 1:  # tuples, as the key of a dict
        return b"\x80\x02})" + b"\x85" * depth + b"K\x01s."
    if kind == 2:  # dicts, each the value of "a"
        return b"\x80\x04" + b"}\x8c\x01a" * depth + b"N" + b"s" * depth + b"."
    return pickle.dumps({"model": OrderedDict(arrays), "__author__": "x"}, rng.choice((2, 4)))


def _has_array(tensor: torch.Tensor) -> bool:
    try:
        tensor.numpy()
    except (TypeError, RuntimeError):
        return False
    return tensor.is_contiguous()


def damaged_bytes(data: bytes, rng: Random) -> bytes:
    """Some bytes replaced near the beginning, or anywhere; or cut off."""
    out = bytearray(data)
    for _ in range(rng.randint(0, 3)):
        at = rng.randrange(min(len(out), rng.choice((16, 400, len(out)))))
        out[at] = rng.randrange(256)
    if rng.random() < 0.1:
        out = out[: rng.randrange(8, len(out))]
    if rng.random() < 0.05:
        out[:8] = struct.pack("<Q", rng.choice((0, 2**20, 2**40, 2**63)))
    return bytes(out)


def damaged(kind: str, base: tuple[dict[str, Any], dict[str, torch.Tensor]], rng: Random) -> bytes:
    """The bytes of one damaged file."""
    header, state = base
    if kind == "header":
        return with_header(state, damaged_header(header, rng))
    state = damaged_tensors(state, rng)
    if kind == "tensors":
        plain = {str(k): v for k, v in state.items() if isinstance(v, torch.Tensor) and v.layout == torch.strided}
        plain = {k: v for k, v in plain.items() if not (v.is_meta or v.is_nested or v.is_quantized or v.numel() > 1e7)}
        return damaged_bytes(with_header(plain, json.dumps(header)), rng)
    if kind == "pickle":
        return damaged_bytes(_pickled(state, rng), rng)
    out = io.BytesIO()
    torch.save({"model": state}, out, _use_new_zipfile_serialization=rng.random() < 0.7)
    return damaged_bytes(out.getvalue(), rng)


KINDS = ("header", "tensors", "torch", "pickle")


def outcome(path: Path) -> str:
    """ "read" or "refused"; raises what is no error of ours, or one that does not name the file or is too long."""
    try:
        content = read(path)
        if content.header is None:
            return "read"
        predictor = load(path)
        if predictor.spec.size <= 128:
            predictor.predict(np.zeros((40, 50, 3), np.uint8))
    except MaskwrightError as error:
        text = str(error)
    else:
        return "read"
    assert str(path) in text, f"does not name the file: {text}"
    assert len(text) < 3000, f"{len(text)} characters: {text[:200]}"
    return "refused"


def run(kind: str, count: int, seed: int, folder: Path, seconds: int = 10) -> tuple[Counter[str], list[str]]:
    """Outcomes, and what was wrong, of `count` damaged files. seconds: of the processor, for each."""
    bases, counts, wrong = sound(), Counter[str](), []
    for number in range(count):
        rng = Random(f"{kind}/{seed}/{number}")
        path = folder / f"{number}.{ {'torch': 'pth', 'pickle': 'pkl'}.get(kind, 'safetensors') }"
        base = rng.choice(bases)
        try:
            path.write_bytes(damaged(kind, base, rng))
        except (RuntimeError, TypeError, ValueError, RecursionError, pickle.PicklingError):
            counts["not made"] += 1
            continue
        start = time.process_time()
        try:
            with alarm(seconds):
                counts[outcome(path)] += 1
        except (Exception, Hang) as error:
            counts["wrong"] += 1
            wrong.append(f"{kind} {seed} {number}: {type(error).__name__}: {str(error)[:300]}")
        if (taken := time.process_time() - start) > 3:
            wrong.append(f"{kind} {seed} {number}: slow, {taken:.1f} s")
        path.unlink()
    return counts, wrong


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kind", choices=KINDS, action="append")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
    failed = 0
    for kind in given.kind or KINDS:
        with tempfile.TemporaryDirectory() as folder:
            counts, wrong = run(kind, given.count, given.seed, Path(folder))
        failed += len(wrong)
        print(kind, dict(counts), *wrong, sep="\n  ", flush=True)
    print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10, "MB")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
