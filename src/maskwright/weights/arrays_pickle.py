"""An unpickler for NumPy arrays only.

A pickle can name any function and have it called. This one resolves a few names, all to functions of its own that
build plain numeric arrays, and `OrderedDict`. Any other name is refused before it is looked up, so nothing in the file
is imported or called. NumPy's reconstruction functions are not used either: the bytes of every array are first checked
against its shape and dtype.
"""

import math
import pickle
import pickletools
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import IO, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from maskwright.errors import WeightsError

_LONGEST, _TUPLES, _DEEPEST = 1_000_000, 50_000, 4
"""Instructions and tuples of a pickle, and dicts in dicts. The weights of a network have some ten thousand, a few for
each tensor, and two."""

_ARRAY_TYPE = "numpy.ndarray"  # stands for the class: a str can neither be called nor modified


class _Dtype:
    """A dtype as a pickle stores it: a code such as "f4", then a state with the byte order."""

    def __init__(self, code: Any) -> None:
        self.code = code.decode("ascii") if isinstance(code, bytes) else str(code)
        self.order = "="

    def __setstate__(self, state: Any) -> None:
        self.order = str(state[1])

    def numpy(self) -> "np.dtype[Any]":
        """The NumPy dtype if it is a plain number; WeightsError otherwise."""
        order = "" if self.order == "|" else self.order
        code = self.code.lstrip("<>=|")
        if code[:1] not in "biuf" or not code[1:].isdigit() or order not in ("", "<", ">", "="):
            raise WeightsError(f"an array of type '{self.code}' was found where only plain numbers are read")
        return np.dtype(order + code)


class _Array:
    """An array under construction: `_reconstruct` makes it empty, its state fills it."""

    def __init__(self) -> None:
        self.array: NDArray[Any] = np.zeros(0)

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, raw = state
        self.array = _from_bytes(raw, dtype, shape, "F" if fortran else "C")


def _from_bytes(raw: Any, dtype: Any, shape: Any, order: str) -> NDArray[Any]:
    """An array of `shape` copied from `raw`; WeightsError if their sizes differ."""
    if isinstance(raw, str):  # pickles of Python 2 store bytes as text
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
    """`_codecs.encode`, by which Python 3 writes bytes in protocol 2; only Latin-1 is allowed."""
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
        ("__builtin__", "bytes"): lambda: b"",  # empty bytes in protocol 2
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
        return partial(builder)  # a new object, so that a file cannot modify the builder itself


def check_length(stream: IO[bytes]) -> None:
    """Raises WeightsError for a pickle that no network's weights need; ValueError for one that is damaged.

    Long ones take minutes, tuples that lie some hundred thousand deep in each other end the process, and a place to
    remember an object at takes memory for all places before it.
    """
    tuples = 0
    for count, (instruction, argument, _) in enumerate(pickletools.genops(stream)):
        tuples += "TUPLE" in instruction.name
        if "PUT" in instruction.name and argument is not None and not 0 <= argument <= _LONGEST:
            raise WeightsError(f"its pickle remembers an object at place {argument}, of at most {_LONGEST}")
        if count > _LONGEST or tuples > _TUPLES:
            raise WeightsError("its pickle has more instructions than the weights of any network need")


def load(stream: BinaryIO) -> Any:
    """The object pickled in `stream`: dicts, lists, text, numbers and NumPy arrays.

    Raises WeightsError, without the name of a file, if it has anything else or is damaged.
    """
    try:
        check_length(stream)
        stream.seek(0)
        return _plain(_ArraysOnly(stream, encoding="latin1").load())
    except WeightsError:
        raise
    except Exception as error:  # a damaged pickle can fail in any way
        raise WeightsError(f"it is damaged or cut off ({type(error).__name__}: {error})") from error


def _plain(value: Any, depth: int = 0) -> Any:
    """`value` with the finished arrays in place of their builders, in nested dicts; WeightsError if these are deep, as
    a dict that holds another several times would grow with every level."""
    if isinstance(value, _Array):
        return value.array
    if isinstance(value, dict):
        if depth >= _DEEPEST:
            raise WeightsError(f"its dicts are nested more than {_DEEPEST} deep")
        return {key: _plain(item, depth + 1) for key, item in value.items()}
    return value
