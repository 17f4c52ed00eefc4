"""What this installation is and what this machine can do, for reports of faults: `maskwright doctor`.

Nothing is computed, fetched or written.
"""

import os
import platform
import re
import shutil
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from maskwright import __version__
from maskwright.fast.bf16 import bf16_is_fast, takes_bf16
from maskwright.predictor.detector import auto_device
from maskwright.weights.fetch import cache_folder

INSTRUCTIONS = {
    "AVX2": ("avx2",),
    "AVX-512": ("avx512_f", "avx512_bw", "avx512_dq", "avx512_vl"),
    "VNNI": ("avx512_vnni",),
    "AVX-VNNI": ("avx_vnni",),
    "AVX512-BF16": ("avx512_bf16",),
    "AMX": ("amx_tile",),
    "NEON": ("neon",),
    "ARM BF16": ("bf16",),
}
"""Names of instruction sets, with the capabilities of torch's that all have to be there."""

VARIABLES = (
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY"),
    *("THP_MEM_ALLOC_ENABLE", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MASKWRIGHT_CACHE"),
)
"""Variables of the environment that change what is computed, how fast, or where files are kept."""

SystemFacts = dict[str, Any]


def examine() -> dict[str, SystemFacts]:
    """The facts by topic, in values that JSON can hold; of extras that are missing the command that installs them."""
    return {
        "maskwright": {
            "version": __version__,
            "folder": str(Path(__file__).parent),
            "python": f"{platform.python_version()}, {platform.python_implementation()}, {sys.executable}",
            "system": platform.platform(),
        },
        "packages": _packages(),
        "extras": _extras(),
        "device": _device(),
        "processor": _processor(),
        "files": _files(),
        "environment": {name: os.environ[name] for name in VARIABLES if name in os.environ},
    }


def report(facts: Mapping[str, SystemFacts]) -> str:
    """The facts as plain text: a heading for each topic, a line for each fact."""
    lines = []
    for topic, rows in facts.items():
        wide = max((len(name) for name in rows), default=0)
        lines += [topic, *(f"  {name:<{wide}}  {_shown(value)}" for name, value in rows.items())]
    return "\n".join(lines)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "none"
    return str(value)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _requirements() -> list[tuple[str, str, str]]:
    """Name, bounds and extra ("" of what is always needed) of each package that this one asks for."""
    try:
        texts = metadata.requires("maskwright") or []
    except metadata.PackageNotFoundError:  # the source is on the path without having been installed
        texts = []
    found = []
    for text in texts:
        name, bounds = re.match(r"([\w.-]+)\s*([^;]*)", text).groups()  # type: ignore[union-attr]
        extra = re.search(r"""extra\s*==\s*['"]([\w.-]+)['"]""", text)
        found.append((name, bounds.strip(), extra[1] if extra else ""))
    return found


def _packages() -> SystemFacts:
    needed = [(name, bounds) for name, bounds, extra in _requirements() if not extra]
    if not needed:
        return {"note": "maskwright is run from its source; what it needs is in pyproject.toml"}
    return {name: _version(name) or f"MISSING, needs {bounds}" for name, bounds in needed}


def _extras() -> SystemFacts:
    extras: dict[str, list[str]] = {}
    for name, _, extra in _requirements():
        if extra:
            extras.setdefault(extra, []).append(name)
    out = {}
    for extra, names in extras.items():
        versions = {name: _version(name) for name in names}
        there = ", ".join(f"{name} {version}" for name, version in versions.items())
        out[extra] = there if all(versions.values()) else f"missing: pip install 'maskwright[{extra}]'"
    return out


def _device() -> SystemFacts:
    facts: SystemFacts = {"auto": auto_device()}
    for k in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        about = torch.cuda.get_device_properties(k)
        bf16 = "fast in bf16" if bf16_is_fast(torch.device("cuda", k)) else "no bf16"
        facts[f"cuda:{k}"] = f"{about.name}, {about.total_memory / 1e9:.0f} GB, {about.major}.{about.minor}, {bf16}"
    cuda = torch.version.cuda
    facts["torch is built for"] = f"CUDA {cuda}" if cuda else "processors only, or another kind of GPU"
    if torch.backends.mps.is_available():
        facts["mps"] = "there, but not used: it has no float64, in which boxes are compared"
    return facts


def _processor() -> SystemFacts:
    able = torch.cpu.get_capabilities()
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "name": able.get("cpu_name") or platform.processor() or "unknown",
        "architecture": platform.machine(),
        "cores": f"{os.cpu_count()}, of which this process may use {usable}",
        "threads of torch": torch.get_num_threads(),
        "instructions": [name for name, needed in INSTRUCTIONS.items() if all(able.get(key) for key in needed)],
        "oneDNN": torch.backends.mkldnn.is_available(),
        "computes in bf16": takes_bf16(),
        "fast in bf16": bf16_is_fast(torch.device("cpu")),
        "memory": _memory(),
    }


def _memory() -> str:
    """Physical memory, where the system says it."""
    try:
        return f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 1e9:.1f} GB"
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return "unknown"


def _files() -> SystemFacts:
    cache = cache_folder()
    kept = [path.stat().st_size for path in cache.rglob("*") if path.is_file()] if cache.is_dir() else []
    there = next(path for path in (cache, *cache.parents) if path.exists())
    return {
        "cache": f"{cache}, {sum(kept) / 1e6:.0f} MB in {len(kept)} files"
        if cache.is_dir()
        else f"{cache}, not made yet",
        "free on its disk": f"{shutil.disk_usage(there).free / 1e9:.1f} GB",
        "writable": os.access(there, os.W_OK),
    }
