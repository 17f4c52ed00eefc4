"""Runs mutations of one reader and collects what went wrong: in this process, with limits of time and memory.

Mutation k of a seed is the same whenever it is run, alone or among others. A verb may succeed, or fail with an error of
ours that is short, names a file, and leaves nothing half-written. Anything else is a failure.
"""

import contextlib
import io
import os
import resource
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import typer
from tests.fuzz.mutate import damage
from tests.fuzz.readers import READERS, Verb

from maskwright.cli import app
from maskwright.errors import MaskwrightError

MEMORY = 3 << 29
"""Bytes of address space that a mutation may take: sound inputs are a few kilobytes."""

LONGEST = 4000
"""Characters of the longest message and of the longest line of output, without file names."""


COMMAND = typer.main.get_command(app)


class Hang(BaseException):
    """A verb takes too long. No Exception, lest a reader takes it for damage of its file."""


@dataclass(frozen=True)
class Failure:
    """kind: what is wrong. where: the line of ours that it came from, or the words of a message."""

    kind: str
    where: str
    detail: str


@dataclass
class Outcome:
    """counts: verbs by what became of them, "done", "refused" or a kind of failure. first: an example of each failure.

    times: how often each was seen.
    """

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)
    times: Counter[str] = field(default_factory=Counter)

    def add(self, failure: Failure, mutation: str) -> None:
        key = f"{failure.kind}: {failure.where}"
        self.times[key] += 1
        self.first.setdefault(key, f"{mutation}: {failure.detail}")

    def text(self) -> str:
        """A block for each failure, the most frequent first."""
        return "\n".join(f"{count} x {key}\n    {self.first[key]}" for key, count in self.times.most_common())


def run(
    name: str,
    numbers: Sequence[int],
    seed: int = 0,
    *,
    seconds: float = 60.0,
    save: Path | None = None,
    damaged: bool = True,
) -> Outcome:
    """Run these mutations of a reader. seconds: of the processor, for each verb. save: where failing inputs are kept.

    damaged: False leaves the inputs sound.
    """
    outcome = Outcome()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as temporary, _bounded():
        base = Path(temporary)
        (base / "sound").mkdir()
        cases = READERS[name].cases(base / "sound")
        there = _files(base)
        known = {os.path.basename(path) for path in there}
        for k in numbers:
            rng, out = Random(f"{name} {seed} {k}"), base / f"out{k}"
            case = rng.choice(cases)
            victim = rng.choice(case.damaged)
            sound = victim.read_bytes()
            content = damage(victim.name, sound, rng) if damaged else sound
            victim.write_bytes(content)
            names = {case.place.name, base.name, *known}
            found = _verbs(READERS[name].verbs(case, out, rng), names, seconds, outcome.counts)
            for path in base.glob(f"{out.name}*"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            if stray := sorted(_files(base) - there):
                found.append(Failure("stray file", stray[0], ""))
                there |= set(stray)
            for failure in found:
                outcome.add(failure, f"--seed {seed} --only {k}, {victim.relative_to(base / 'sound')}")
            if found and save is not None:
                save.mkdir(parents=True, exist_ok=True)
                (save / f"{name}-{seed}-{k}-{victim.name}").write_bytes(content)
            victim.write_bytes(sound)
    return outcome


def _verbs(verbs: Sequence[Verb], names: set[str], seconds: float, counts: Counter[str]) -> list[Failure]:
    """names: of which an error names one."""
    found = []
    for verb in verbs:
        failure = _one(verb, names, seconds, counts)
        if failure is not None:
            found.append(failure)
            counts[failure.kind] += 1
    return found


def _one(verb: Verb, names: set[str], seconds: float, counts: Counter[str]) -> Failure | None:
    """Do it and judge how it ended."""
    said, words = io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace"), "a call" if callable(verb) else verb[1]
    try:
        with (
            alarm(seconds),
            warnings.catch_warnings(),
            contextlib.redirect_stdout(said),
            contextlib.redirect_stderr(said),
        ):
            warnings.simplefilter("error")
            verb() if callable(verb) else COMMAND([*verb, "--debug"], standalone_mode=False)
    except MaskwrightError as error:
        text = str(error)
        if len(text) > LONGEST:
            return Failure("long message", _origin(error), f"{words}: {len(text)} characters: {text[:300]}...")
        if "/" not in text and not any(name in text for name in names):
            return Failure("names no file", _origin(error), f"{words}: {text[:300]}")
        counts["refused"] += 1
        return None
    except Hang as error:
        return Failure("hang", _origin(error), f"{words}: over {seconds:g} s")
    except (Exception, SystemExit) as error:
        kind = "memory" if isinstance(error, MemoryError) else type(error).__name__
        return Failure(kind, _origin(error), f"{words}: {str(error)[:300]}")
    said.flush()
    lines = said.buffer.getvalue().decode().splitlines()  # type: ignore[attr-defined]
    longest = max(lines, key=len, default="")
    for_programs = not callable(verb) and verb[1] == "stats" and "--json" in verb
    if len(longest) > LONGEST and not for_programs:
        return Failure("long output", longest[:60], f"{words}: a line of {len(longest)} characters")
    counts["done"] += 1
    return None


def _origin(error: BaseException) -> str:
    """The innermost line of ours, and of others what was called there."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if "maskwright" in f.filename]
    last = own[-1] if own else frames[-1]
    inner = "" if last is frames[-1] else f" -> {Path(frames[-1].filename).name} {frames[-1].name}"
    return f"{'/'.join(Path(last.filename).parts[-3:])}:{last.lineno} {last.name}{inner}"


def _files(base: Path) -> set[str]:
    return {os.path.join(folder, name) for folder, _, names in os.walk(base) for name in names}


# ---- limits ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def alarm(seconds: float) -> Iterator[None]:
    """Raises Hang after so much time of the processor, whatever else runs on it."""

    def ring(*_: Any) -> None:
        raise Hang

    before = signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@contextlib.contextmanager
def _bounded() -> Iterator[None]:
    """The address space of this process limited to what it has now and `MEMORY`; only where Linux says how much."""
    if not sys.platform.startswith("linux"):
        yield
        return
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
