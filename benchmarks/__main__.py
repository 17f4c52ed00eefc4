"""All benchmarks, one after the other: `python -m benchmarks`."""

import subprocess
import sys

RUNS = (
    ("benchmarks.roi_align",),
    ("benchmarks.mask_rcnn", "--precision", "float32"),
    ("benchmarks.mask_rcnn", "--precision", "bf16"),
    ("benchmarks.yolact", "--precision", "float32"),
    ("benchmarks.yolact", "--precision", "bf16"),
    ("benchmarks.yolact", "--nuclei"),
)

if __name__ == "__main__":
    for module, *arguments in RUNS:
        subprocess.run([sys.executable, "-m", module, *arguments], check=True)
        print(flush=True)
