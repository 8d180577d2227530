/* What a device is, and its gauges other than power. */
#include "double.h"

#include <stdio.h>
#include <string.h>

struct pci { char legacy[16]; unsigned domain, bus, device, id, subsystem; char bus_id[32]; };
struct utilization { unsigned gpu, memory; };
struct memory { uint64_t total, free, used; };
struct memory_v2 { unsigned version; uint64_t total, reserved, free, used; };
struct temperature { unsigned version; int sensor, celsius; };

bool within(const struct spans *spans, int64_t t_ns)
{
    for (size_t i = 0; i < spans->count; i++)
        if (t_ns >= spans->items[i].from_ns && t_ns < spans->items[i].to_ns)
            return true;
    return false;
}

bool is_there(const struct spans *present, int64_t t_ns)
{
    return present->count == 0 || within(present, t_ns);
}

bool device_gone(const struct device *device, int64_t t_ns)
{
    return within(&device->absent, t_ns) || within(&device->lost, t_ns);
}

uint64_t timestamp_us(const struct call *call, int64_t t_ns)
{
    wide us = floor_div((wide)call->world->epoch_ns + t_ns + call->world->timestamp_offset_ns, 1000);
    return us > 0 ? (uint64_t)us : 0;
}

API nvmlDeviceGetUUID(nvmlDevice_t handle, char *uuid, unsigned size)
{
    DEVICE_CALL(handle);
    return leave(put_text(uuid, size, call.instance != NULL ? call.instance->uuid : call.device->uuid));
}

API nvmlDeviceGetName(nvmlDevice_t handle, char *name, unsigned size)
{
    DEVICE_CALL(handle);
    char whole[2 * TEXT_SIZE + 8];
    snprintf(whole, sizeof whole, "%s%s%s", call.device->name, call.instance != NULL ? " MIG " : "",
             call.instance != NULL ? call.instance->name : "");
    return leave(put_text(name, size, whole));
}

API nvmlDeviceGetSerial(nvmlDevice_t handle, char *serial, unsigned size)
{
    WHOLE_GPU_CALL(handle);
    return leave(call.device->serial[0] == '\0' ? NVML_ERROR_NOT_SUPPORTED : put_text(serial, size, call.device->serial));
}

API nvmlDeviceGetIndex(nvmlDevice_t handle, unsigned *index)
{
    DEVICE_CALL(handle);
    if (call.instance != NULL) {
        *index = 0;
        for (struct instance *other = call.device->instances; other != call.instance; other++)
            *index += is_there(&other->present, call.t_ns);
        return leave(NVML_SUCCESS);
    }
    nvmlDevice_t other = NULL;
    for (*index = 0; *index < enumerated(&call); ++*index) {
        handle_at(&call, *index, &other);
        if (other == handle)
            return leave(NVML_SUCCESS);
    }
    return leave(NVML_ERROR_NOT_FOUND);
}

API nvmlDeviceGetMinorNumber(nvmlDevice_t handle, unsigned *minor)
{
    WHOLE_GPU_CALL(handle);
    *minor = (unsigned)call.device->minor;
    return leave(NVML_SUCCESS);
}

API nvmlDeviceGetArchitecture(nvmlDevice_t handle, unsigned *architecture)
{
    DEVICE_CALL(handle);
    *architecture = (unsigned)call.device->architecture;
    return leave(NVML_SUCCESS);
}

API nvmlDeviceGetBrand(nvmlDevice_t handle, unsigned *brand)
{
    DEVICE_CALL(handle);
    *brand = (unsigned)call.device->brand;
    return leave(NVML_SUCCESS);
}

API nvmlDeviceGetCudaComputeCapability(nvmlDevice_t handle, int *major, int *minor)
{
    DEVICE_CALL(handle);
    *major = (int)call.device->cuda_major;
    *minor = (int)call.device->cuda_minor;
    return leave(NVML_SUCCESS);
}

API nvmlDeviceGetPersistenceMode(nvmlDevice_t handle, unsigned *mode)
{
    WHOLE_GPU_CALL(handle);
    *mode = (unsigned)call.device->persistence;
    return leave(NVML_SUCCESS);
}

API nvmlDeviceGetPerformanceState(nvmlDevice_t handle, unsigned *state)
{
    WHOLE_GPU_CALL(handle);
    *state = (unsigned)call.device->pstate;
    return leave(NVML_SUCCESS);
}

API nvmlDeviceGetPowerState(nvmlDevice_t handle, unsigned *state)
{
    WHOLE_GPU_CALL(handle);
    *state = (unsigned)call.device->pstate;
    return leave(NVML_SUCCESS);
}

static nvmlReturn_t pci_info(const struct device *device, struct pci *info)
{
    memset(info, 0, sizeof *info);
    if (sscanf(device->pci, "%x:%x:%x", &info->domain, &info->bus, &info->device) != 3)
        return NVML_ERROR_UNKNOWN;
    snprintf(info->legacy, sizeof info->legacy, "%04X:%02X:%02X.0", info->domain & 0xFFFF, info->bus & 0xFF,
             info->device & 0xFF);
    snprintf(info->bus_id, sizeof info->bus_id, "%08X:%02X:%02X.0", info->domain, info->bus & 0xFF,
             info->device & 0xFF);
    info->id = 0x233010DE;
    return NVML_SUCCESS;
}

API nvmlDeviceGetPciInfo_v3(nvmlDevice_t handle, struct pci *info)
{
    DEVICE_CALL(handle);
    return leave(pci_info(call.device, info));
}

API nvmlDeviceGetUtilizationRates(nvmlDevice_t handle, struct utilization *rates)
{
    WHOLE_GPU_CALL(handle);
    if (call.device->mig)
        return leave(NVML_ERROR_NOT_SUPPORTED);
    rates->gpu = (unsigned)wave_at(&call.device->utilization, call.t_ns);
    rates->memory = (unsigned)wave_at(&call.device->memory_utilization, call.t_ns);
    return leave(NVML_SUCCESS);
}

API nvmlDeviceGetTemperature(nvmlDevice_t handle, int sensor, unsigned *celsius)
{
    WHOLE_GPU_CALL(handle);
    if (sensor != 0)
        return leave(NVML_ERROR_INVALID_ARGUMENT);
    *celsius = (unsigned)call.device->temperature_c;
    return leave(NVML_SUCCESS);
}

API nvmlDeviceGetTemperatureV(nvmlDevice_t handle, struct temperature *reading)
{
    WHOLE_GPU_CALL(handle);
    if (reading->version != (1u << 24 | sizeof *reading))
        return leave(NVML_ERROR_ARGUMENT_VERSION_MISMATCH);
    if (reading->sensor != 0)
        return leave(NVML_ERROR_INVALID_ARGUMENT);
    reading->celsius = (int)call.device->temperature_c;
    return leave(NVML_SUCCESS);
}

static uint64_t processes_memory(const struct call *call, int64_t gpu_instance)
{
    uint64_t used = 0;
    for (size_t i = 0; i < call->device->process_count; i++) {
        const struct process *process = &call->device->processes[i];
        if (process->memory_bytes != NOT_GIVEN && is_there(&process->present, call->t_ns)
            && (gpu_instance < 0 || process->gpu_instance == gpu_instance))
            used += (uint64_t)process->memory_bytes;
    }
    return used;
}

uint64_t device_memory_used(const struct call *call)
{
    int64_t given = call->device->memory_used_bytes;
    return given != NOT_GIVEN ? (uint64_t)given : processes_memory(call, -1);
}

uint64_t instance_memory_used(const struct call *call, const struct instance *instance)
{
    int64_t given = instance->memory_used_bytes;
    return given != NOT_GIVEN ? (uint64_t)given : processes_memory(call, instance->gpu_instance);
}

static struct memory_v2 memory(const struct call *call)
{
    struct memory_v2 found = { .total = (uint64_t)call->device->memory_total_bytes };
    if (call->instance != NULL) {
        found.total = (uint64_t)call->instance->memory_total_bytes;
        found.used = instance_memory_used(call, call->instance);
    } else {
        found.used = device_memory_used(call);
        found.reserved = (uint64_t)call->device->memory_reserved_bytes;
    }
    uint64_t taken = found.used + found.reserved;
    found.free = taken < found.total ? found.total - taken : 0;
    return found;
}

/* Version 1 counts what the driver keeps for itself as used. */
API nvmlDeviceGetMemoryInfo(nvmlDevice_t handle, struct memory *info)
{
    DEVICE_CALL(handle);
    struct memory_v2 found = memory(&call);
    *info = (struct memory){ found.total, found.free, found.used + found.reserved };
    return leave(NVML_SUCCESS);
}

API nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t handle, struct memory_v2 *info)
{
    DEVICE_CALL(handle);
    if (info->version != (2u << 24 | sizeof *info))
        return leave(NVML_ERROR_ARGUMENT_VERSION_MISMATCH);
    unsigned version = info->version;
    *info = memory(&call);
    info->version = version;
    return leave(NVML_SUCCESS);
}
