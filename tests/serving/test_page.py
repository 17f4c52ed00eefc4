"""The page: what it may load, and that its script reads run lengths as this package writes them."""

import base64
import hashlib
import json
import re
import shutil
import subprocess

import numpy as np
import pytest

from maskwright.ops import masks as mask_ops
from maskwright.serving.page import page
from maskwright.types import Masks


def test_it_needs_nothing_beside_it_and_its_policy_fits_it() -> None:
    content, headers = page()
    text, policy = content.decode(), headers["Content-Security-Policy"]
    for tag in ("style", "script"):
        inline = re.search(f"<{tag}>(.*)</{tag}>", text, re.DOTALL)
        assert inline is not None
        digest = base64.b64encode(hashlib.sha256(inline[1].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert "://" not in text
    assert re.findall(r'(?:src|href)="([^"]*)"', text) == ["data:,"]
    assert not re.search(r"innerHTML|insertAdjacent|document\.write|\son\w+=|style=", text)


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node, which is not there")
def test_its_script_reads_run_lengths() -> None:
    rng = np.random.default_rng(0)
    dense = np.zeros((6, 40, 57), bool)
    for k, mask in enumerate(dense[:4]):
        mask[3 * k : 3 * k + 20, 5 : 30 + 5 * k] = rng.random((20, 25 + 5 * k)) < 0.2 + 0.2 * k
    dense[4] = True  # dense[5] is empty
    rows = [{"segmentation": rle, "box": [0, 0, 1, 1]} for rle in mask_ops.encode(Masks.from_dense(dense))]
    script = page()[0].decode().split("// ---- run lengths")[1].split("\n", 1)[1].split("// ---- what is shown")[0]
    program = f"{script}\nconsole.log(JSON.stringify({json.dumps(rows)}.map((row) => decoded(row, 40, 57))));"
    run = subprocess.run(["node", "-e", program], capture_output=True, text=True, check=True)
    for mask, found in zip(dense, json.loads(run.stdout), strict=True):
        columns = np.zeros(40 * 57, bool)
        for first, end in zip(found["spans"][::2], found["spans"][1::2], strict=True):
            columns[first:end] = True
        assert np.array_equal(columns.reshape(57, 40).T, mask)
        assert found["area"] == mask.sum()
