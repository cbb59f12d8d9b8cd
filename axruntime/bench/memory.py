"""The memory of this process, where the system says it."""

import contextlib
import sys
from pathlib import Path

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def current() -> int | None:
    """Resident bytes now; elsewhere than on Linux the peak so far; None where the system does not say."""
    return _linux("VmRSS") if _STATUS.exists() else _peak_elsewhere()


def peak() -> int | None:
    """The most resident bytes so far, on Linux since `forget_peak`; None where the system does not say."""
    return _linux("VmHWM") if _STATUS.exists() else _peak_elsewhere()


def forget_peak() -> None:
    """Reset the peak, where that is possible."""
    with contextlib.suppress(OSError):
        _CLEAR.write_text("5")


def _linux(field: str) -> int | None:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    return None


def _peak_elsewhere() -> int | None:
    try:
        import resource  # not on Windows
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
