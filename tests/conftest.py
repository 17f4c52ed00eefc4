"""Fixtures shared by all tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from maskwright.fast.bf16 import takes_bf16

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"


def pytest_configure() -> None:
    """A thread for each process of `make test`, two where pytest runs alone, unless the environment says otherwise, so
    that sums are alike everywhere; no network for the hub.

    Processes that tests start inherit the number: more of them than cores would only wait for each other.
    Property tests try the same examples everywhere; HYPOTHESIS_PROFILE=explore tries new ones.
    """
    settings.register_profile("same", derandomize=True, deadline=None)
    settings.register_profile("explore", deadline=None)
    settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))
    if "PYTEST_XDIST_WORKER" in os.environ:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of recorded numbers and real images beside the project; tests that need it skip without it."""
    if not SHARED.is_dir():
        pytest.skip(f"needs {SHARED}, which is not there")
    return SHARED


@pytest.fixture(scope="session")
def bf16() -> None:
    """For tests that compute in bf16."""
    if not takes_bf16():
        pytest.skip("this processor does not multiply bf16 numbers")


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """For modules of tiny tensors: a second thread would only wait."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
