"""Ends with 0 where an NVIDIA driver is loaded (well or not), with 3 where there is none.

``make run`` asks this to choose between the machine's GPUs and simulated ones. A driver that is there and fails is a
matter for the agent to report, never a reason to simulate.
"""

from __future__ import annotations

import ctypes
import sys

NVML_ERROR_DRIVER_NOT_LOADED = 9


def driver_present() -> bool:
    """Whether libnvidia-ml.so.1 loads and does not answer that no driver is loaded."""
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return False
    return bool(nvml.nvmlInit_v2() != NVML_ERROR_DRIVER_NOT_LOADED)


if __name__ == "__main__":
    sys.exit(0 if driver_present() else 3)
