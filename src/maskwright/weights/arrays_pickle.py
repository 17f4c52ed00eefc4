"""Read a pickle that holds NumPy arrays, and nothing else that a pickle can do.

A pickle is a program. This reader gives it a handful of words, all of them ours: builders of plain numeric arrays and
`OrderedDict`. Any other name that the file asks for is refused before it is looked up, so nothing in the file is
imported or called. NumPy's own reconstruction is not used either: the bytes of every array are checked against its
shape and number type first.
"""

import math
import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from maskwright.errors import WeightsError

_ARRAY_TYPE = "numpy.ndarray"  # stands for the class where a pickle names it; a str can neither be called nor changed


class _Dtype:
    """A number type as a pickle spells it: a code such as "f4", then a state that carries the byte order."""

    def __init__(self, code: Any) -> None:
        self.code = code.decode("ascii") if isinstance(code, bytes) else str(code)
        self.order = "="

    def __setstate__(self, state: Any) -> None:
        self.order = str(state[1])

    def numpy(self) -> "np.dtype[Any]":
        """The NumPy type, if it is a plain number; WeightsError otherwise."""
        order = "" if self.order == "|" else self.order
        code = self.code.lstrip("<>=|")
        if code[:1] not in "biuf" or not code[1:].isdigit() or order not in ("", "<", ">", "="):
            raise WeightsError(f"an array of type '{self.code}' was found where only plain numbers are read")
        return np.dtype(order + code)


class _Array:
    """An array that is being rebuilt: `_reconstruct` makes it empty, the state fills it."""

    def __init__(self) -> None:
        self.array: NDArray[Any] = np.zeros(0)

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, raw = state
        self.array = _from_bytes(raw, dtype, shape, "F" if fortran else "C")


def _from_bytes(raw: Any, dtype: Any, shape: Any, order: str) -> NDArray[Any]:
    """An array of `shape` copied from `raw`; WeightsError where their sizes disagree."""
    if isinstance(raw, str):  # a pickle of Python 2 holds bytes as text
        raw = raw.encode("latin1")
    if not isinstance(dtype, _Dtype) or not isinstance(raw, (bytes, bytearray)):
        raise WeightsError("an array was found whose contents are not plain numbers")
    kind, sides = dtype.numpy(), tuple(int(s) for s in shape)
    expected = math.prod(sides) * kind.itemsize
    if min(sides, default=0) < 0 or len(raw) != expected:
        raise WeightsError(f"an array of shape {sides}, {kind} needs {expected} bytes, {len(raw)} were found")
    array = np.frombuffer(raw, kind).reshape(sides, order="F" if order == "F" else "C")
    return array.astype(kind.newbyteorder("="), order="C")


def _filled(raw: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    out = _Array()
    out.array = _from_bytes(raw, dtype, shape, str(order))
    return out


def _scalar(dtype: Any, raw: Any) -> Any:
    return _from_bytes(raw, dtype, (), "C").item()


def _latin1(text: Any, encoding: Any) -> bytes:
    """How a protocol-2 pickle written by Python 3 spells bytes; no other codec is let in."""
    if encoding != "latin1" or not isinstance(text, str):
        raise WeightsError(f"text in the codec {encoding!r} was found where only array bytes are read")
    return text.encode("latin1")


_BUILDERS: Mapping[tuple[str, str], Callable[..., Any]] = MappingProxyType(
    {
        ("numpy.core.multiarray", "_reconstruct"): lambda *_: _Array(),
        ("numpy.core.multiarray", "scalar"): _scalar,
        ("numpy.core.numeric", "_frombuffer"): _filled,
        ("numpy", "dtype"): lambda code, *_: _Dtype(code),
        ("_codecs", "encode"): _latin1,
        ("__builtin__", "bytes"): lambda: b"",  # how protocol 2 spells no bytes at all
    }
)


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        known = module.replace("numpy._core.", "numpy.core.", 1)
        if (known, name) == ("numpy", "ndarray"):
            return _ARRAY_TYPE
        if (known, name) == ("collections", "OrderedDict"):
            return OrderedDict
        builder = _BUILDERS.get((known, name))
        if builder is None:
            raise WeightsError(f"it asks for '{module}.{name}', which is not a NumPy array; nothing was executed")
        return partial(builder)  # a fresh object: what a file does to it ends with it


def load(stream: BinaryIO) -> Any:
    """The object in the pickle `stream`: dicts, lists, text, numbers and NumPy arrays.

    Raises WeightsError, without naming a file, where it asks for anything else or is damaged.
    """
    try:
        return _plain(_ArraysOnly(stream, encoding="latin1").load())
    except WeightsError:
        raise
    except Exception as error:  # a damaged pickle can fail in any way
        raise WeightsError(f"it is damaged or cut off ({type(error).__name__}: {error})") from error


def _plain(value: Any) -> Any:
    """`value` with finished arrays in the place of the builders, in dicts of any depth."""
    if isinstance(value, _Array):
        return value.array
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value
