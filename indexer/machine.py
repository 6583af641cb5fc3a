"""The machine and the versions that a measurement was made with."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

from rwkvsearch.data.processor import processor_line

_PACKAGES = {
    "torch": ("torch",),
    "openvino": ("openvino",),
    "faiss": ("faiss-cpu", "faiss-gpu"),
    "rwkvsearch": ("rwkvsearch",),
}


def describe_machine() -> dict[str, str | int | float | None]:
    """Processor, cores that this process may use, memory, load and versions.

    Memory in bytes, the load of the last minute; None for what is not there.
    """
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "memory_bytes": _memory(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "system": platform.system(),
        "python": platform.python_version(),
    } | {name: _version(packages) for name, packages in _PACKAGES.items()}


def _processor() -> str:
    named = processor_line("model name").partition(":")[2].strip()
    return named or platform.processor() or platform.machine()


def _memory() -> int | None:
    with suppress(ValueError, OSError, AttributeError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return None


def _version(packages: tuple[str, ...]) -> str | None:
    for package in packages:
        with suppress(PackageNotFoundError):
            return version(package)
    return None
