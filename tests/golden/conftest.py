"""Weights files that are filled and written once for all golden tests."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.golden.recorded import Extract, write_checkpoint


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Path]]:
    """Gives the weights file of a recorded model; the files are removed at the end."""
    folder = tmp_path_factory.mktemp("golden")
    paths: dict[str, Path] = {}

    def path(name: str) -> Path:
        if name not in paths:
            paths[name] = write_checkpoint(Extract(name), folder)
        return paths[name]

    yield path
    for file in paths.values():
        file.unlink()
