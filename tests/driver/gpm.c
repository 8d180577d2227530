/* GPU performance monitoring: two samples, and the mean of a metric between them. */
#include "double.h"

#include <stdlib.h>

#define METRIC_SM_UTIL 2
#define LEAST_APART_NS (SECOND_NS / 10)

struct gpm_sample { struct slot *slot; int64_t gpu_instance, t_ns; };    /* slot NULL: nothing taken yet */
struct gpm_metric { unsigned id, code; double value; const char *short_name, *long_name, *unit; };
struct gpm_metrics { unsigned version, count; struct gpm_sample *first, *second; struct gpm_metric metrics[]; };
struct gpm_support { unsigned version, supported; };

API nvmlGpmQueryDeviceSupport(nvmlDevice_t handle, struct gpm_support *support)
{
    DEVICE_CALL(handle);
    if (support->version != 1)
        return leave(NVML_ERROR_ARGUMENT_VERSION_MISMATCH);
    support->supported = call.device->gpm != 0;
    return leave(NVML_SUCCESS);
}

API nvmlGpmSampleAlloc(struct gpm_sample **to)
{
    SYSTEM_CALL();
    *to = calloc(1, sizeof **to);
    return leave(*to == NULL ? NVML_ERROR_MEMORY : NVML_SUCCESS);
}

API nvmlGpmSampleFree(struct gpm_sample *sample)
{
    SYSTEM_CALL();
    free(sample);
    return leave(NVML_SUCCESS);
}

API nvmlGpmSampleGet(nvmlDevice_t handle, struct gpm_sample *sample)
{
    WHOLE_GPU_CALL(handle);
    if (!call.device->gpm || call.device->mig)
        return leave(NVML_ERROR_NOT_SUPPORTED);
    *sample = (struct gpm_sample){ call.device->slot, NO_INSTANCE, call.t_ns };
    return leave(NVML_SUCCESS);
}

API nvmlGpmMigSampleGet(nvmlDevice_t handle, unsigned gpu_instance, struct gpm_sample *sample)
{
    WHOLE_GPU_CALL(handle);
    if (!call.device->gpm || !call.device->mig)
        return leave(NVML_ERROR_NOT_SUPPORTED);
    for (size_t i = 0; i < call.device->instance_count; i++)
        if (call.device->instances[i].gpu_instance == gpu_instance
            && is_there(&call.device->instances[i].present, call.t_ns)) {
            *sample = (struct gpm_sample){ call.device->slot, gpu_instance, call.t_ns };
            return leave(NVML_SUCCESS);
        }
    return leave(NVML_ERROR_INVALID_ARGUMENT);
}

/* An instance is as busy as its processes together. */
static double sm_percent(const struct device *device, int64_t gpu_instance, int64_t from_ns, int64_t to_ns)
{
    if (gpu_instance == NO_INSTANCE)
        return (double)wave_integral(&device->utilization, from_ns, to_ns) / (double)(to_ns - from_ns);
    double sum = 0;
    for (size_t i = 0; i < device->process_count; i++)
        if (device->processes[i].gpu_instance == gpu_instance)
            sum += process_sm_percent(&device->processes[i], from_ns, to_ns);
    return sum < 100 ? sum : 100;
}

API nvmlGpmMetricsGet(struct gpm_metrics *to)
{
    SYSTEM_CALL();
    if (to->version != 1)
        return leave(NVML_ERROR_ARGUMENT_VERSION_MISMATCH);
    const struct gpm_sample *first = to->first, *second = to->second;
    if (first == NULL || second == NULL || first->slot == NULL || first->slot != second->slot
        || first->gpu_instance != second->gpu_instance || second->t_ns - first->t_ns < LEAST_APART_NS)
        return leave(NVML_ERROR_INVALID_ARGUMENT);
    const struct device *device = device_of(first->slot);
    if (device == NULL)
        return leave(NVML_ERROR_GPU_IS_LOST);
    for (unsigned i = 0; i < to->count; i++) {
        struct gpm_metric *metric = &to->metrics[i];
        metric->code = metric->id == METRIC_SM_UTIL ? NVML_SUCCESS : NVML_ERROR_NOT_SUPPORTED;
        if (metric->code == NVML_SUCCESS)
            metric->value = sm_percent(device, first->gpu_instance, first->t_ns, second->t_ns);
    }
    return leave(NVML_SUCCESS);
}
