"""A model written to one file that other programs run, and compared with the model before it gets its name."""

import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from maskwright import media
from maskwright.atomic import replacing, require_file_or_nothing
from maskwright.codec import Section, ranged
from maskwright.data.dataset import Dataset
from maskwright.errors import ConfigError, DataError, suggest
from maskwright.evaluation.evaluate import Data, opened
from maskwright.exporting.compare import Difference, Limit, compare, own_images
from maskwright.exporting.graph import fixed_size, write_graph
from maskwright.exporting.int8 import Contract, with_contract
from maskwright.models.base import AnyModel
from maskwright.predictor.detector import NetworkDetector
from maskwright.predictor.load import load
from maskwright.predictor.predictor import Predictor
from maskwright.runtimes.detector import RuntimeDetector
from maskwright.runtimes.header import Header
from maskwright.runtimes.table import KINDS, kind_of
from maskwright.types import Classes

COMPARED = 8
"""Images of a user that a file is compared on."""


@dataclass(frozen=True)
class ExportOptions(Section):
    """How a model is exported.

    to: the kind of file, of `runtimes.table.KINDS`; None: by the suffix of its name. max_instances: rows of an image
    that the file has room for; None: as many as the model reports. int8: whether layers compute in 8 bits; max_drop:
    points (hundredths) of AP that this may cost.
    """

    to: str | None = None
    max_instances: int | None = ranged(None, low=1)
    int8: bool = False
    max_drop: float = ranged(0.3, low=0)


@dataclass(frozen=True)
class Exported:
    """A file that was written. kind: of it. files: all of them. difference: from the network, as measured. contract:
    what INT8 lost, None for float32."""

    path: Path
    kind: str
    files: tuple[Path, ...]
    difference: Difference
    contract: Contract | None = None

    def report(self) -> str:
        """What was written and how it was compared, as plain text."""
        size = sum(file.stat().st_size for file in self.files) / 1e6
        names = " and ".join(str(file) for file in self.files)
        lines = [f"{names}: {size:.1f} MB", f"Compared with PyTorch: {self.difference}"]
        return "\n".join([*lines, *([self.contract.report()] if self.contract else [])])


def export(
    model: str | os.PathLike[str] | AnyModel | Predictor,
    path: str | os.PathLike[str],
    options: ExportOptions | None = None,
    *,
    classes: Classes | Sequence[str] | None = None,
    images: Sequence[Any] | None = None,
    data: Data | None = None,
    calibrate: Sequence[Any] | None = None,
    **changes: Any,
) -> Exported:
    """Write a model to a file that ONNX Runtime or OpenVINO runs and `load` takes as it takes a checkpoint.

    model: a name of the zoo, a checkpoint, a network with the names of its `classes`, or a predictor. path: `.onnx`, or
    `.xml` for OpenVINO, which has a `.bin` beside it; existing files are replaced. images: what the file is compared on
    with the network, anything that `Predictor.predict` takes; None takes scenes of the package. options, or `changes`
    as keywords: see `ExportOptions`.
    The file is written under its name only if it gives what the network gives (`compare.Limit`), and in INT8 only if no
    AP of `data`, annotated images, falls by more than `max_drop`; layers that would cost more stay in float32.
    calibrate: images that the ranges of INT8 are taken from; None takes a part of `data` and measures on the rest.
    Raises ConfigError for a path or options that do not fit and for a network that cannot be exported, DataError where
    the file differs from the network or loses more in INT8 than is allowed, MissingExtraError, and what `load` raises.
    """
    options = replace(options or ExportOptions(), **changes)
    target, kind = Path(path), kind_for(path, options.to)
    require_file_or_nothing(target)
    predictor = as_predictor(model, classes)
    network = predictor.detector
    if not isinstance(network, NetworkDetector):
        raise ConfigError(f"'{predictor.name}' is an exported file. Export the model that it was made of.")
    annotated = _annotated(options, data, calibrate)
    limits = network.limits
    if options.max_instances is not None:
        limits = replace(limits, keep=options.max_instances)
    with tempfile.TemporaryDirectory() as folder:
        graph, written = Path(folder) / "graph.onnx", Path(folder) / f"file{KINDS[kind].suffix}"
        semantic = write_graph(network, limits, graph)
        config = replace(network.config, spec=network.spec)
        names = None if semantic is None else semantic.classes
        facts = {
            "architecture": os.path.basename(predictor.name),
            "made_with": _versions(),
            "version": version("maskwright"),
        }
        header = Header(config, network.classes, limits, fixed_size(network.spec), names, "float32", facts)
        KINDS[kind].save(graph, written, header.text())
        shown = own_images() if images is None else images
        difference = compare_files(predictor, written, shown)
        check(difference, Limit(), target)
        measured, contract = {"measured": difference.facts()}, None
        if annotated is not None:
            float_graph, graph = graph, graph.with_name("int8.onnx")
            header = replace(header, precision="int8")

            def as_file(quantised: Path) -> Predictor:
                KINDS[kind].save(quantised, written, header.text())
                return Predictor(RuntimeDetector.of(written), name=written.name)

            contract = with_contract(float_graph, graph, as_file, predictor, annotated, calibrate, options.max_drop)
            difference = compare(predictor, as_file(graph), shown)
            measured = {"measured": difference.facts(), "int8": contract.facts()}
        KINDS[kind].save(graph, written, header.text(**measured))
        return Exported(target, kind, _placed(written, target, kind), difference, contract)


def _annotated(options: ExportOptions, data: Data | None, calibrate: Sequence[Any] | None) -> Dataset | None:
    """What INT8 is measured on, None for float32. ConfigError where arguments do not fit together."""
    if not options.int8:
        if data is not None or calibrate is not None:
            raise ConfigError("data and calibrate are of INT8 alone. Give int8=True, or leave them out.")
        return None
    if data is None:
        raise ConfigError("INT8 needs annotated images, on which its loss is measured.", options=("data",))
    return opened(data, None, None, None)


def verify(
    model: str | os.PathLike[str] | Predictor, path: str | os.PathLike[str], images: Sequence[Any] | None = None
) -> Difference:
    """Compare an exported file with the model that it was made of; arguments as in `export`.

    Raises DataError where a file in float32 differs from the network, and what `load` raises.
    """
    predictor, file = as_predictor(model, None), RuntimeDetector.of(path)
    difference = compare(predictor, Predictor(file, name=str(path)), own_images() if images is None else images)
    if file.header.precision == "float32":
        check(difference, Limit(), Path(path), written=True)
    return difference


def kind_for(path: str | os.PathLike[str], asked: str | None) -> str:
    """The kind of file that is asked for, or that the path has the suffix of. ConfigError where they do not fit."""
    if asked is not None and asked not in KINDS:
        raise ConfigError(f"There is no kind of file '{asked}'.{suggest(asked, KINDS)}", options=("to",))
    known = ", ".join(f"{kind.suffix} ({name})" for name, kind in KINDS.items())
    own = kind_of(path)
    if own is None:
        raise ConfigError(f"{path}: the name of an exported file ends in one of {known}.")
    if asked is not None and asked != own:
        raise ConfigError(
            f"{path} has the suffix of {own}, asked for was {asked}; suffixes are {known}.", options=("to",)
        )
    return own


def as_predictor(
    model: str | os.PathLike[str] | AnyModel | Predictor, classes: Classes | Sequence[str] | None
) -> Predictor:
    """The model ready to predict, on the processor in float32 where it is loaded here."""
    if isinstance(model, Predictor):
        return model
    if isinstance(model, (str, os.PathLike)):
        return load(model)
    known = classes if classes is None or isinstance(classes, Classes) else Classes(classes)
    return Predictor(model, known, name=type(model).__name__)


def compare_files(predictor: Predictor, written: Path, images: Sequence[Any]) -> Difference:
    """What a file that was just written differs by."""
    return compare(predictor, Predictor(RuntimeDetector.of(written), name=written.name), images)


def check(difference: Difference, limit: Limit, target: Path, *, written: bool = False) -> None:
    """Raises DataError where the difference is above the limits."""
    if wrong := difference.beyond(limit):
        left = "" if written else " It was not written."
        raise DataError(
            f"{target} does not give what the network gives: {'; '.join(wrong)}.{left} Compared: {difference}. Of a "
            "trained network this should not happen: please report it with the model and versions."
        )


def some_images(
    data: Data | None,
    images: str | os.PathLike[str] | None,
    data_format: str | None = None,
    count: int = COMPARED,
) -> list[Path] | None:
    """Up to `count` images of annotations, or of a folder, pattern or file, evenly spread; None where none are named.

    Raises DataError or ImageError where there are none.
    """
    if data is not None:
        dataset = opened(data, images, None, data_format)
        paths = [dataset.path(i) for i in range(len(dataset))]
    elif images is not None:
        paths = [Path(path) for path in media.find_images([os.fspath(images)])]
    else:
        return None
    step = -(-len(paths) // count)
    return paths[::step]


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("torch", "onnx", "onnxscript")}


def _placed(written: Path, target: Path, kind: str) -> tuple[Path, ...]:
    """Move the file, and the one that belongs to it first, under the final names."""
    beside, files = KINDS[kind].beside, [target]
    if beside:
        files.insert(0, target.with_suffix(beside))
        require_file_or_nothing(files[0])
    for file in files:
        with replacing(file) as part:
            shutil.copyfile(written.with_suffix(file.suffix), part)
    return tuple(reversed(files))
