"""What Linux says of the processor; nothing on other systems."""

from pathlib import Path


def processor_line(name: str) -> str:
    """The line of `/proc/cpuinfo` about the first processor that begins with `name`, or nothing.

    Read no further than that: of hundreds of processors it takes long.
    """
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as lines:
            return next((line.rstrip("\n") for line in lines if line.startswith(name)), "")
    except OSError:
        return ""
