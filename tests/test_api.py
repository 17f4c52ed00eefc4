"""What outside programs rely on: the public names, and that importing the package costs nothing."""

import json
import subprocess
import sys

import pytest

import maskwright


def test_every_public_name_is_there() -> None:
    assert len(maskwright.__all__) == len(set(maskwright.__all__)) <= 28
    for name in maskwright.__all__:
        assert getattr(maskwright, name) is not None
    assert dir(maskwright) == sorted(maskwright.__all__)
    documented = {"Predictor", "build", "evaluate", "load", "read_image", "train", "__version__"}
    assert documented <= set(maskwright.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'maskwright' has no attribute 'lode'"):
        maskwright.lode  # noqa: B018


HEAVY = ("torch", "torchvision", "timm", "numpy", "PIL", "scipy", "hotcoco", "safetensors", "accelerate")


@pytest.mark.parametrize(
    "statement", ["import maskwright", "import maskwright.errors", "import maskwright as m; dir(m)"]
)
def test_importing_brings_nothing_heavy(statement: str) -> None:
    script = f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stderr == ""
    assert [name for name in HEAVY if name in json.loads(run.stdout)] == []


def test_using_every_name_leaves_the_process_as_it_was() -> None:
    script = """
import logging
import numpy as np, torch
def state():
    return (torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), logging.getLogger().handlers[:],
            logging.getLogger().level, torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled())
before = state()
import maskwright
for name in maskwright.__all__:
    getattr(maskwright, name)
assert state() == before
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True, capture_output=True, text=True)
