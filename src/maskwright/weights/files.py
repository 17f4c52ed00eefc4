"""Read any weights file into named tensors, safely; write our own checkpoints.

Three formats are recognised by their first bytes, never by the suffix:

    safetensors   our checkpoints (with a JSON header under the metadata key "maskwright"), and other programs' files
    torch         torch.save, zip or legacy layout: torchvision's files, training runs of detectron2
    pickle        detectron2's model zoo: a pickle of NumPy arrays

Nothing in a file is imported or executed: torch files are read with `weights_only=True`, pickles by an unpickler that
accepts arrays only (`arrays_pickle`).
"""

import contextlib
import json
import math
import os
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from maskwright.atomic import replacing
from maskwright.errors import WeightsError, suggest
from maskwright.weights import arrays_pickle
from maskwright.weights.fetch import cache_folder
from maskwright.weights.keyrules import unwrapped

WeightsFormat = Literal["safetensors", "torch", "pickle"]

KEY = "maskwright"
"""Metadata key of our header."""

REQUIRED = ("architecture", "config", "classes")
"""Required keys of a header; it may have any others, such as `input`, `output`, `metrics` and `licence`."""

_GROWTH = 100  # times the size of a file that its parts may have; torch does not compress

_TYPES = (
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
)  # of tensors that are read

_TORCH_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_WRAPPERS = ("model", "state_dict", "model_state_dict")
_ACCEPTED = "a .safetensors file, a torch checkpoint (.pth, .pt) or a detectron2 model (.pkl)"


@dataclass(frozen=True)
class WeightsFile:
    """The content of a file. header: of our checkpoints, else None. left_out: names of other entries."""

    path: Path
    format: WeightsFormat
    tensors: dict[str, Tensor]
    header: dict[str, Any] | None = None
    left_out: tuple[str, ...] = ()


SUFFIXES = (".safetensors", ".pth", ".pt", ".pkl")
"""Of the files that hold weights."""


def names_file(name: str | os.PathLike[str]) -> bool:
    """Whether a name means a file and not a model of the zoo: it is a path, is written like one, or is there."""
    text = os.fspath(name)
    written = text.endswith(SUFFIXES) or "/" in text or os.sep in text
    return not isinstance(name, str) or written or Path(text).is_file()


def sniff(path: str | os.PathLike[str]) -> WeightsFormat:
    """The format of the weights file at `path`, by its first bytes; WeightsError if it is none or cannot be read."""
    path = Path(path)
    start, size = _first_bytes(path)
    if size == 0:
        raise WeightsError(f"{path} is empty (0 bytes); expected {_ACCEPTED}. Fetch or copy it again.")
    if start[:4] == b"PK\x03\x04" or start.startswith(_TORCH_LEGACY):
        return "torch"
    if start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04\x05":
        return "pickle"
    if len(start) > 8 and start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 100_000_000:
        return "safetensors"
    raise WeightsError(f"{path} ({size} bytes) is not {_ACCEPTED}: {_looks_like(start)}")


def _first_bytes(path: Path) -> tuple[bytes, int]:
    """The first 512 bytes and the size of the file."""
    try:
        with path.open("rb") as stream:
            return stream.read(512), path.stat().st_size
    except FileNotFoundError:
        folder = path.parent
        beside = (p.name for p in folder.iterdir() if p.is_file()) if folder.is_dir() else ()
        hint = suggest(path.name, beside, listing=False)
        raise WeightsError(f"There is no weights file at {path}.{hint}") from None
    except OSError as error:
        raise WeightsError(f"Cannot read the weights file {path}: {error.strerror or error}.") from error


def _looks_like(start: bytes) -> str:
    text = start.lstrip().lower()
    if text.startswith(b"<"):
        return "it looks like a web page, probably an error page saved under this name. Download it again."
    if text.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer; the weights themselves were not fetched. Run: git lfs pull"
    return f"it starts with {start[:8]!r}."


def read(path: str | os.PathLike[str]) -> WeightsFile:
    """All tensors of a weights file, on the CPU, in their stored dtype.

    A dict inside "model", "state_dict" or "model_state_dict" is unwrapped; prefixes of wrappers of the model are
    removed. Raises WeightsError, naming the file, if it is missing, damaged, or has entries that are not tensors.
    """
    path = Path(path)
    kind = sniff(path)
    if kind == "safetensors":
        return _read_safetensors(path)
    content = _read_torch(path) if kind == "torch" else _read_pickle(path)
    found, left_out = _state(content, path)
    tensors = {name: _tensor(value, name, path) for name, value in found.items()}
    return WeightsFile(path, kind, dict(unwrapped(tensors)), left_out=left_out)


def _read_safetensors(path: Path) -> WeightsFile:
    try:
        with safe_open(path, framework="pt") as stream:
            tensors = {name: _tensor(stream.get_tensor(name), name, path) for name in stream.keys()}  # noqa: SIM118
            metadata = stream.metadata() or {}
    except WeightsError:
        raise
    except Exception as error:  # also what torch says to a type that it does not have
        raise _damaged(path, "safetensors file", error) from error
    if not tensors:
        raise WeightsError(f"{path} holds no tensors.")
    return WeightsFile(path, "safetensors", tensors, _header(metadata, path))


def _read_torch(path: Path) -> Any:
    try:
        _check_sizes(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except WeightsError as error:
        raise WeightsError(f"{path} is not loaded: {error}. {_again(path)}") from error
    except Exception as error:  # torch raises a dozen types for damaged files
        refused = re.search(r"GLOBAL ([\w.]+)", str(error))
        named = f"'{refused[1]}'" if refused else "a TorchScript program" if "TorchScript" in str(error) else ""
        if named:
            raise WeightsError(
                f"{path} is not loaded: it asks for {named}, which is not a tensor; nothing was executed. "
                "Save the weights alone in the program that made the file: torch.save(model.state_dict(), ...)."
            ) from error
        raise _damaged(path, "torch checkpoint", error) from error


def _check_sizes(path: Path) -> None:
    """Raises WeightsError where a torch file would grow far beyond its size, or its pickles are too long."""
    with path.open("rb") as stream:
        if not zipfile.is_zipfile(stream):
            stream.seek(0)
            for _ in range(4):  # of the older layout; the fourth is the content
                arrays_pickle.check_length(stream)
            return
        with zipfile.ZipFile(stream) as archive:
            parts = archive.infolist()
            if sum(part.file_size for part in parts) > _GROWTH * path.stat().st_size:
                raise WeightsError(f"its parts are more than {_GROWTH} times as large as the file")
            for part in parts:
                if part.filename.endswith(".pkl"):
                    with archive.open(part) as content:
                        arrays_pickle.check_length(content)


def _read_pickle(path: Path) -> Any:
    try:
        with path.open("rb") as stream:
            return arrays_pickle.load(stream)
    except WeightsError as error:
        raise WeightsError(
            f"{path} is not loaded as a detectron2 model: {error}. Expected a pickle of NumPy arrays. {_again(path)} "
            "Or save its weights as safetensors in the program that made it."
        ) from error


def _damaged(path: Path, what: str, error: Exception) -> WeightsError:
    text = str(error).rpartition("WeightsUnpickler error:")[2].strip() or type(error).__name__
    reason = text.splitlines()[0].partition(". ")[0][:200].rstrip(". ")
    size = path.stat().st_size
    return WeightsError(f"{path} ({size} bytes) is a damaged or cut off {what}: {reason}. {_again(path)}")


def _again(path: Path) -> str:
    """What to do about a damaged file; one in the cache has to be deleted, or it would be used again."""
    kept = path.suffix != ".part" and path.resolve().is_relative_to(cache_folder().resolve())
    return "Delete it; it will be fetched again." if kept else "Fetch or copy it again."


def _state(content: Any, path: Path) -> tuple[Mapping[Any, Any], tuple[str, ...]]:
    """The mapping of the tensors, and the names of the entries beside it."""
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path} holds a {type(content).__name__}; expected tensors by name.")
    if "blobs" in content:
        raise WeightsError(f"{path} is a Detectron (Caffe2) file, which is not read; use detectron2's file instead.")
    wrapper = next((w for w in _WRAPPERS if isinstance(content.get(w), Mapping)), None)
    left_out = tuple(_named(k).strip("'") for k in content if k != wrapper) if wrapper else ()
    state = content[wrapper] if wrapper else content
    if not state:
        raise WeightsError(f"{path} holds no tensors.")
    return state, left_out


def _tensor(value: Any, name: Any, path: Path) -> Tensor:
    if isinstance(value, np.ndarray) and value.dtype.isnative and value.dtype.kind in "biuf":
        with contextlib.suppress(TypeError):  # float128, for example
            value = torch.from_numpy(value)
    if isinstance(value, Tensor) and isinstance(name, str) and _plain(value):
        return value.detach()
    kind = f"{value.dtype}" if isinstance(value, np.ndarray | Tensor) else type(value).__name__
    if isinstance(name, str) and isinstance(value, Tensor) and value.dtype in _TYPES:
        kind += " without values of its own" if value.is_meta else f", {value.layout}, shape {_shape(value)}"
    raise WeightsError(
        f"{path}: entry {_named(name)} is of type {kind}; expected dense tensors of plain numbers by name. "
        "Save the weights as float32, float16 or bfloat16 in the program that made the file."
    )


def _named(name: Any) -> str:
    return repr(name[:100] if isinstance(name, str) else name) if isinstance(name, str | int) else type(name).__name__


def _plain(value: Tensor) -> bool:
    """Whether it is a dense tensor of numbers that are all stored: others could ask for any amount of memory."""
    if value.dtype not in _TYPES or value.is_meta or value.is_nested or value.layout != torch.strided:
        return False
    return value.nbytes <= value.untyped_storage().nbytes()


def _shape(value: Tensor) -> str:
    return "nested" if value.is_nested else str(tuple(value.shape))


def _header(metadata: Mapping[str, str], path: Path) -> dict[str, Any] | None:
    if KEY not in metadata:
        return None
    try:
        header = json.loads(metadata[KEY])
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: its header is not JSON ({error}). Fetch or copy it again.") from error
    _check_header(header, str(path))
    return dict(header)


def _check_header(header: Any, where: str) -> None:
    missing = [k for k in REQUIRED if k not in header] if isinstance(header, Mapping) else list(REQUIRED)
    if missing:
        raise WeightsError(f"{where}: the checkpoint header lacks {', '.join(missing)}; needed: {', '.join(REQUIRED)}.")


def save_checkpoint(
    path: str | os.PathLike[str], state: Mapping[str, Tensor], header: Mapping[str, Any], *, half: bool = False
) -> Path:
    """Write tensors and header as one .safetensors file, in one step (see `atomic.replacing`); returns its path.

    header: JSON values and paths, with all of `REQUIRED`; "version" is added. Numbers in "metrics" that are not finite
        are written as null.
    half: store float tensors of two and more dimensions as float16 if their values fit; others (biases, statistics of
        norm layers) keep their dtype. Loading into a model converts them back.
    Raises WeightsError for a header that is incomplete or not JSON, and if the file cannot be written.
    """
    path = Path(path)
    _check_header(header, str(path))
    content = {"version": version("maskwright"), **header}
    if isinstance(metrics := header.get("metrics"), Mapping):
        content["metrics"] = {k: None if v != v or v in (math.inf, -math.inf) else v for k, v in metrics.items()}
    try:
        text = json.dumps(content, ensure_ascii=False, allow_nan=False, default=os.fspath)
    except (TypeError, ValueError) as error:
        raise WeightsError(f"{path}: the checkpoint header must be JSON values: {error}.") from error
    stored = {name: _stored(tensor, half) for name, tensor in state.items()}
    try:
        with replacing(path) as part:
            _save(stored, part, {KEY: text})
    except OSError as error:
        raise WeightsError(str(error)) from error
    except SafetensorError as error:
        raise WeightsError(f"Cannot write the checkpoint {path}: {error}.") from error
    return path


def _save(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """`save_file`, with errors of the operating system as OSError, which safetensors hides in its own type."""
    try:
        save_file(tensors, path, metadata=metadata)
    except SafetensorError as error:
        if number := re.search(r"\(os error (\d+)\)", str(error)):
            raise OSError(int(number[1]), str(error), str(path)) from error
        raise


def _stored(tensor: Tensor, half: bool) -> Tensor:
    """A contiguous copy on the CPU: safetensors refuses tensors that share storage, such as tied weights."""
    out = tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
    if half and out.ndim >= 2 and out.dtype in (torch.float32, torch.float64):
        small = out.to(torch.float16)
        if torch.equal(small.isfinite(), out.isfinite()):
            return small
    return out
