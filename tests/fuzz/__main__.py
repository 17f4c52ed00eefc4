"""Fuzz readers by hand, for as long as you like.

python -m tests.fuzz --reader coco --count 10000 --seed 1
python -m tests.fuzz --reader coco --seed 1 --only 4711        the mutation of a failure once more
python -m tests.fuzz                                           all readers, another seed each time
"""

import argparse
import sys
import time
from pathlib import Path

from tests.fuzz.readers import READERS
from tests.fuzz.run import run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.split("\n")[0])
    parser.add_argument("--reader", action="append", choices=READERS, help="repeatable; default: all")
    parser.add_argument("--count", type=int, default=1000, help="mutations of each reader")
    parser.add_argument("--seed", type=int, default=None, help="default: the time")
    parser.add_argument("--only", type=int, help="the number of one mutation")
    parser.add_argument("--seconds", type=float, default=10.0, help="of the processor, that a verb may take")
    parser.add_argument("--save", type=Path, default=Path("/tmp/maskwright-fuzz"), help="folder for inputs that fail")
    given = parser.parse_args()
    seed = int(time.time()) if given.seed is None else given.seed
    numbers = range(given.count) if given.only is None else [given.only]
    failures = 0
    for name in given.reader or READERS:
        start = time.monotonic()
        outcome = run(name, numbers, seed, seconds=given.seconds, save=given.save)
        counts = ", ".join(f"{count} {kind}" for kind, count in outcome.counts.most_common())
        print(
            f"{name}, seed {seed}: {len(numbers)} mutations in {time.monotonic() - start:.0f} s: {counts}", flush=True
        )
        print(outcome.text(), flush=True)
        failures += outcome.times.total()
    if failures:
        print(f"{failures} failures; the damaged files are in {given.save}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
