/* What other programs ask for beside the agent's questions: plausible constants, or "not supported". */
#include "double.h"

struct bar1 { uint64_t total, free, used; };

#define CONSTANT(name, number)                                     \
    API name(nvmlDevice_t handle, unsigned *to)                    \
    {                                                              \
        WHOLE_GPU_CALL(handle);                                    \
        *to = number;                                              \
        return leave(NVML_SUCCESS);                                \
    }
#define UNSUPPORTED(name)                                          \
    API name(nvmlDevice_t handle)                                  \
    {                                                              \
        DEVICE_CALL(handle);                                       \
        return leave(NVML_ERROR_NOT_SUPPORTED);                    \
    }

CONSTANT(nvmlDeviceGetComputeMode, 0)
CONSTANT(nvmlDeviceGetDisplayMode, 0)
CONSTANT(nvmlDeviceGetDisplayActive, 0)
CONSTANT(nvmlDeviceGetNumGpuCores, 16896)
CONSTANT(nvmlDeviceGetCurrPcieLinkGeneration, 5)
CONSTANT(nvmlDeviceGetCurrPcieLinkWidth, 16)
CONSTANT(nvmlDeviceGetMaxPcieLinkGeneration, 5)
CONSTANT(nvmlDeviceGetMaxPcieLinkWidth, 16)

UNSUPPORTED(nvmlDeviceGetFanSpeed)              /* server cards have no fan of their own */
UNSUPPORTED(nvmlDeviceGetTotalEccErrors)
UNSUPPORTED(nvmlDeviceGetEccMode)
UNSUPPORTED(nvmlDeviceGetDriverModel_v2)
UNSUPPORTED(nvmlDeviceGetDriverModel)
UNSUPPORTED(nvmlDeviceGetRunningProcessDetailList)
UNSUPPORTED(nvmlDeviceGetConfComputeMemSizeInfo)
UNSUPPORTED(nvmlDeviceGetTemperatureThreshold)

API nvmlDeviceGetClockInfo(nvmlDevice_t handle, int domain, unsigned *mhz)
{
    WHOLE_GPU_CALL(handle);
    *mhz = domain == 2 ? 2619 : 1980;
    return leave(NVML_SUCCESS);
}

API nvmlDeviceGetMaxClockInfo(nvmlDevice_t handle, int domain, unsigned *mhz)
{
    WHOLE_GPU_CALL(handle);
    *mhz = domain == 2 ? 2619 : 1980;
    return leave(NVML_SUCCESS);
}

API nvmlDeviceGetEncoderUtilization(nvmlDevice_t handle, unsigned *percent, unsigned *period_us)
{
    WHOLE_GPU_CALL(handle);
    *percent = 0, *period_us = 167000;
    return leave(NVML_SUCCESS);
}

API nvmlDeviceGetDecoderUtilization(nvmlDevice_t handle, unsigned *percent, unsigned *period_us)
{
    WHOLE_GPU_CALL(handle);
    *percent = 0, *period_us = 167000;
    return leave(NVML_SUCCESS);
}

API nvmlDeviceGetPcieThroughput(nvmlDevice_t handle, int counter, unsigned *kib_per_s)
{
    WHOLE_GPU_CALL(handle);
    *kib_per_s = counter == 0 ? 1024 : 2048;
    return leave(NVML_SUCCESS);
}

API nvmlDeviceGetBAR1MemoryInfo(nvmlDevice_t handle, struct bar1 *info)
{
    DEVICE_CALL(handle);
    *info = (struct bar1){ UINT64_C(128) << 30, (UINT64_C(128) << 30) - (1 << 20), 1 << 20 };
    return leave(NVML_SUCCESS);
}

API nvmlDeviceGetCurrentClocksEventReasons(nvmlDevice_t handle, uint64_t *reasons)
{
    WHOLE_GPU_CALL(handle);
    *reasons = 0;
    return leave(NVML_SUCCESS);
}

API nvmlDeviceGetVbiosVersion(nvmlDevice_t handle, char *version, unsigned size)
{
    WHOLE_GPU_CALL(handle);
    return leave(put_text(version, size, "96.00.00.00.01"));
}
