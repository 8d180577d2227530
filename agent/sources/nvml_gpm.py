"""GPU performance monitoring (GPM), on Hopper and later: how busy the SMs were on average between two looks.

Unlike utilization, which tells whether any kernel ran, this tells how much of the chip worked, and also of one MIG
instance. Layouts and numbers are those of nvml.h.
"""

from __future__ import annotations

import struct
from ctypes import byref, c_uint, c_void_p, create_string_buffer
from math import isnan

from agent.sources.nvml import INVALID_ARGUMENT, NOT_SUPPORTED, SUCCESS, Fault, Handle, Nvml

_VERSION = 1
_SM_UTIL = 2                                                       # NVML_GPM_METRIC_SM_UTIL, percent
_SUPPORT = struct.Struct("=II")                                    # nvmlGpmSupport_t
_GET = struct.Struct("@IIPP")                                      # nvmlGpmMetricsGet_t, before its metrics
_METRIC = struct.Struct("@IIdPPP")                                 # nvmlGpmMetric_t
_MAX_METRICS = 512                                                 # more than any version of the structure has room for


class Gpm:
    """One GPU, or one MIG instance. Holds two samples and takes turns; a look costs two calls."""

    def __init__(self, driver: Nvml) -> None:
        self._driver = driver
        self._samples: list[c_void_p] = []
        self._supported = False
        self._taken = False                                # the first sample holds a moment

    def forget(self) -> None:
        """The handle has changed: what was taken before does not go with what comes."""
        self._supported = self._taken = False

    def sm_ratio(self, handle: Handle, gpu_instance: int | None = None) -> float | None:
        """Mean since the last call; None in the first, and when the last is under 100 ms ago. ``gpu_instance`` is the
        id of a MIG instance of the GPU behind the handle. Raises Fault where the device has no GPM."""
        call = self._driver.call
        if not self._supported:
            support = create_string_buffer(_SUPPORT.pack(_VERSION, 0), _SUPPORT.size)
            call("nvmlGpmQueryDeviceSupport", handle, support)
            if not _SUPPORT.unpack(support)[1]:
                raise Fault(NOT_SUPPORTED)
            while len(self._samples) < 2:
                sample = c_void_p()
                call("nvmlGpmSampleAlloc", byref(sample))
                self._samples.append(sample)
            self._supported = True
        first, second = self._samples
        newest = second if self._taken else first
        if gpu_instance is None:
            call("nvmlGpmSampleGet", handle, newest)
        else:
            call("nvmlGpmMigSampleGet", handle, c_uint(gpu_instance), newest)
        if not self._taken:
            self._taken = True
            return None
        ratio = self._between(first, second)
        if ratio is not None:
            self._samples.reverse()
        return ratio

    def close(self) -> None:
        """Give the samples back. Never raises: a driver that is gone has taken them along."""
        for sample in self._samples:
            try:
                self._driver.call("nvmlGpmSampleFree", sample)
            except Fault:
                break
        self._samples.clear()
        self.forget()

    def _between(self, first: c_void_p, second: c_void_p) -> float | None:
        asked = self._driver.gpm_buffer(_GET.size + _MAX_METRICS * _METRIC.size)
        _GET.pack_into(asked, 0, _VERSION, 1, first.value or 0, second.value or 0)
        _METRIC.pack_into(asked, _GET.size, _SM_UTIL, 0, 0.0, 0, 0, 0)
        try:
            self._driver.call("nvmlGpmMetricsGet", asked)
        except Fault as fault:
            if fault.code == INVALID_ARGUMENT:             # too close together, or the instance was made anew: take it as first
                return None
            raise
        _, code, percent, *_ = _METRIC.unpack_from(asked, _GET.size)
        if code != SUCCESS:
            raise Fault(code)
        return None if isnan(percent) else min(1.0, max(0.0, percent / 100))
