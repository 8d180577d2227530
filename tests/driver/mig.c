/* Multi-instance GPUs: slices as devices of their own. */
#include "double.h"

struct attributes {
    unsigned multiprocessors, copy_engines, decoders, encoders, jpeg, ofa, gpu_slices, compute_slices;
    uint64_t memory_mb;
};

API nvmlDeviceGetMigMode(nvmlDevice_t handle, unsigned *current, unsigned *pending)
{
    WHOLE_GPU_CALL(handle);
    if (call.device->mig_max == 0)
        return leave(NVML_ERROR_NOT_SUPPORTED);
    *current = (unsigned)call.device->mig;
    *pending = (unsigned)call.device->mig_pending;
    return leave(NVML_SUCCESS);
}

API nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t handle, unsigned *count)
{
    WHOLE_GPU_CALL(handle);
    *count = (unsigned)call.device->mig_max;
    return leave(NVML_SUCCESS);
}

API nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t handle, unsigned index, nvmlDevice_t *to)
{
    WHOLE_GPU_CALL(handle);
    if (call.device->mig_max == 0)
        return leave(NVML_ERROR_NOT_SUPPORTED);
    if (index >= call.device->mig_max)
        return leave(NVML_ERROR_INVALID_ARGUMENT);
    for (size_t i = 0; call.device->mig && i < call.device->instance_count; i++) {
        if (!is_there(&call.device->instances[i].present, call.t_ns) || index-- != 0)
            continue;
        *to = call.device->instances[i].slot;
        return leave(NVML_SUCCESS);
    }
    return leave(NVML_ERROR_NOT_FOUND);
}

API nvmlDeviceIsMigDeviceHandle(nvmlDevice_t handle, unsigned *is_instance)
{
    DEVICE_CALL(handle);
    *is_instance = call.instance != NULL;
    return leave(NVML_SUCCESS);
}

#define INSTANCE_CALL(handle)                                      \
    DEVICE_CALL(handle);                                           \
    if (call.instance == NULL) return leave(NVML_ERROR_INVALID_ARGUMENT)

API nvmlDeviceGetDeviceHandleFromMigDeviceHandle(nvmlDevice_t handle, nvmlDevice_t *parent)
{
    INSTANCE_CALL(handle);
    *parent = call.device->slot;
    return leave(NVML_SUCCESS);
}

API nvmlDeviceGetGpuInstanceId(nvmlDevice_t handle, unsigned *id)
{
    INSTANCE_CALL(handle);
    *id = (unsigned)call.instance->gpu_instance;
    return leave(NVML_SUCCESS);
}

API nvmlDeviceGetComputeInstanceId(nvmlDevice_t handle, unsigned *id)
{
    INSTANCE_CALL(handle);
    *id = (unsigned)call.instance->compute_instance;
    return leave(NVML_SUCCESS);
}

API nvmlDeviceGetAttributes_v2(nvmlDevice_t handle, struct attributes *to)
{
    INSTANCE_CALL(handle);
    *to = (struct attributes){
        .multiprocessors = (unsigned)call.instance->multiprocessors,
        .copy_engines = (unsigned)call.instance->gpu_slices,
        .gpu_slices = (unsigned)call.instance->gpu_slices,
        .compute_slices = (unsigned)call.instance->compute_slices,
        .memory_mb = (uint64_t)call.instance->memory_total_bytes >> 20,
    };
    return leave(NVML_SUCCESS);
}
