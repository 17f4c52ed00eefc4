"""What HTTP costs: `maskwright serve` against `Predictor.predict` on the same bytes, and the share of each form.

    python -m benchmarks.serve [--images 8] [--objects 300] [--clients 4] [--threads 1]

The images are drawn: bright ellipses on a dark, noisy ground, as stained nuclei, PNG. Both compute with the same number
of threads; the process of the server is started for the run. First `predict` from bytes to masks, then the same images
by one client, then by several at once; then the seconds of encoding a prediction in each form.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import torch
from PIL import Image

from benchmarks.measure import seconds
from maskwright import media
from maskwright.predictor.load import load
from maskwright.predictor.predictor import Predictor
from maskwright.serving.answers import Found, encode
from maskwright.serving.asked import MEDIA_TYPES


def nuclei(seed: int, objects: int) -> bytes:
    """A PNG of about so many ellipses, each on 46 x 46 pixels of its own."""
    rng = np.random.default_rng(seed)
    rows = max(1, round((objects / 1.3) ** 0.5))
    columns = -(-objects // rows)
    values = np.full((46 * rows, 46 * columns), 12.0)
    y, x = np.mgrid[: values.shape[0], : values.shape[1]]
    for i in range(objects):
        top, left = 46 * (i // columns), 46 * (i % columns)
        cell = np.s_[top : top + 46, left : left + 46]
        a, b, turn = rng.uniform(11, 18), rng.uniform(9, 13), rng.uniform(0, np.pi)
        u, v = x[cell] - left - 23 + rng.uniform(-3, 3), y[cell] - top - 23 + rng.uniform(-3, 3)
        far = ((u * np.cos(turn) + v * np.sin(turn)) / a) ** 2 + ((v * np.cos(turn) - u * np.sin(turn)) / b) ** 2
        values[cell] += rng.uniform(70, 150) * np.clip(1.6 * (1 - far), 0, 1)
    values += rng.normal(0, 3, values.shape)
    return media.encoded(Image.fromarray(values.clip(0, 255).astype(np.uint8)), "PNG")


def over_http(contents: Sequence[bytes], clients: int, threads: int) -> tuple[float, float]:
    """Seconds of all images by one client, and by several at once, from a server of its own."""
    command = [sys.executable, "-m", "maskwright", "serve", "--port", "0", "--device", "cpu", "--queue", "64"]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as server:
        try:
            assert server.stderr is not None
            address = re.search(r"http://\S+", server.stderr.readline())
            assert address is not None
            url = f"{address[0]}/predict"

            def ask(content: bytes) -> None:
                with urllib.request.urlopen(urllib.request.Request(url, content)) as answer:
                    answer.read()

            ask(contents[0])
            one = seconds(lambda: list(map(ask, contents)))
            with ThreadPoolExecutor(clients) as pool:
                several = seconds(lambda: list(pool.map(ask, contents)))
            return one, several
        finally:
            server.terminate()
            server.wait()


def encoding(predictor: Predictor, content: bytes, whole: float, runs: int = 7) -> None:
    """Print the seconds and the share of an image's whole time that each form takes."""
    pixels = media.read_image(content)
    found = [Found(predictor.predict(pixels), pixels, None, ())]
    print(f"\nencoding {len(found[0].prediction)} objects of {pixels.shape[0]}x{pixels.shape[1]} pixels")
    for form in MEDIA_TYPES:
        size = len(encode(form, found, "nuclei"))
        took = statistics.median(seconds(partial(encode, form, found, "nuclei")) for _ in range(runs))
        print(f"  {form:8} {1000 * took:7.1f} ms  {100 * took / (whole + took):5.1f} %  {size / 1000:8.1f} kB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("images", 8), ("objects", 300), ("clients", 4), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    contents = [nuclei(seed, given.objects) for seed in range(given.images)]
    predictor = load("nuclei", device="cpu")
    predictor.predict(media.read_image(contents[0]))
    start = time.perf_counter()
    counts = [len(predictor.predict(media.read_image(content))) for content in contents]
    own = time.perf_counter() - start
    one, several = over_http(contents, given.clients, given.threads)
    print(f"{given.images} images, {statistics.mean(counts):.0f} objects each, {given.threads} threads")
    for name, took in (("predict", own), ("1 client", one), (f"{given.clients} clients", several)):
        print(f"  {name:12} {took / given.images:.3f} s an image  {given.images / took:.2f} images/s")
    encoding(predictor, contents[0], own / given.images)


if __name__ == "__main__":
    main()
