/* Power, the energy counter, buffered samples and field values. */
#include "double.h"

#define FIELD_ENERGY 83
#define FIELD_POWER_AVERAGE 185
#define FIELD_POWER_INSTANT 186
#define FIELD_LIMIT_MIN 187
#define FIELD_LIMIT_MAX 188
#define FIELD_LIMIT_DEFAULT 189
#define FIELD_LIMIT_CURRENT 190
#define TYPE_UNSIGNED 1
#define TYPE_UNSIGNED_LONG_LONG 3

union value { double real; unsigned number; uint64_t wide_number; };
struct sample { uint64_t timestamp_us; union value value; };
struct field { uint32_t id, scope; int64_t timestamp_us, latency_us; int type; nvmlReturn_t code; union value value; };

static int64_t quantized(int64_t t_ns, int64_t step_ns)
{
    return step_ns > 0 ? (int64_t)floor_div(t_ns, step_ns) * step_ns : t_ns;
}

static int64_t consumed_mj(const struct device *device, int64_t from_ns, int64_t to_ns)
{
    return (int64_t)floor_div(wave_integral(&device->power, from_ns, to_ns), SECOND_NS);
}

/* Order: a freeze holds time still; then resets and jumps up to that time; then a fall covers the whole. */
uint64_t counter_mj(const struct device *device, int64_t t_ns)
{
    for (size_t i = 0; i < device->freezes.count; i++)
        if (t_ns >= device->freezes.items[i].from_ns && t_ns < device->freezes.items[i].to_ns)
            t_ns = device->freezes.items[i].from_ns;
    t_ns = quantized(t_ns, device->counter_update_ns);
    int64_t since_ns = 0, offset_mj = device->counter_offset_mj;
    for (size_t i = 0; i < device->event_count; i++) {
        const struct counter_event *event = &device->events[i];
        if (t_ns < event->at_ns)
            continue;
        if (event->reset)
            since_ns = event->at_ns, offset_mj = 0;
        offset_mj += event->add_mj;
    }
    int64_t value_mj = offset_mj + consumed_mj(device, since_ns, t_ns);
    for (size_t i = 0; i < device->fall_count; i++) {
        const struct counter_fall *fall = &device->falls[i];
        if (t_ns >= fall->from_ns && t_ns < fall->to_ns)
            value_mj = fall->level_mj + consumed_mj(device, fall->from_ns, t_ns);
    }
    return value_mj > 0 ? (uint64_t)value_mj : 0;
}

static unsigned power_mw(const struct device *device, int64_t t_ns, int64_t window_ns)
{
    t_ns = quantized(t_ns, device->power_update_ns);
    int64_t level = window_ns > 0 ? wave_mean(&device->power, t_ns - window_ns, t_ns) : wave_at(&device->power, t_ns);
    return level > 0 ? (unsigned)level : 0;
}

/* Some drivers answer for a slice with the whole GPU's figure: a trap the scenario can set. */
static bool answers(const struct call *call)
{
    return call->instance == NULL || call->device->mig_repeats_parent;
}

API nvmlDeviceGetPowerUsage(nvmlDevice_t handle, unsigned *milliwatts)
{
    DEVICE_CALL(handle);
    if (!answers(&call) || call.device->power.count == 0)
        return leave(NVML_ERROR_NOT_SUPPORTED);
    *milliwatts = power_mw(call.device, call.t_ns, call.device->power_window_ns);
    return leave(NVML_SUCCESS);
}

API nvmlDeviceGetTotalEnergyConsumption(nvmlDevice_t handle, uint64_t *millijoules)
{
    DEVICE_CALL(handle);
    if (!answers(&call) || !call.device->counter)
        return leave(NVML_ERROR_NOT_SUPPORTED);
    *millijoules = counter_mj(call.device, call.t_ns);
    return leave(NVML_SUCCESS);
}

static nvmlReturn_t limit(nvmlDevice_t handle, const char *function, size_t offset, unsigned *milliwatts)
{
    struct call call;
    nvmlReturn_t code = enter_device(&call, function, handle);
    if (code != NVML_SUCCESS)
        return code;
    int64_t found = *(int64_t *)((char *)call.device + offset);
    if (call.instance != NULL || found == 0)
        return leave(NVML_ERROR_NOT_SUPPORTED);
    *milliwatts = (unsigned)found;
    return leave(NVML_SUCCESS);
}

API nvmlDeviceGetEnforcedPowerLimit(nvmlDevice_t handle, unsigned *milliwatts)
{
    return limit(handle, __func__, offsetof(struct device, limit_mw), milliwatts);
}

API nvmlDeviceGetPowerManagementLimit(nvmlDevice_t handle, unsigned *milliwatts)
{
    return limit(handle, __func__, offsetof(struct device, limit_mw), milliwatts);
}

API nvmlDeviceGetPowerManagementDefaultLimit(nvmlDevice_t handle, unsigned *milliwatts)
{
    return limit(handle, __func__, offsetof(struct device, limit_max_mw), milliwatts);
}

API nvmlDeviceGetPowerManagementLimitConstraints(nvmlDevice_t handle, unsigned *least_mw, unsigned *most_mw)
{
    *least_mw = 100000;
    return limit(handle, __func__, offsetof(struct device, limit_max_mw), most_mw);
}

API nvmlDeviceGetPowerManagementMode(nvmlDevice_t handle, unsigned *mode)
{
    WHOLE_GPU_CALL(handle);
    *mode = call.device->limit_mw != 0;
    return leave(NVML_SUCCESS);
}

static nvmlReturn_t field_value(const struct call *call, struct field *field)
{
    const struct device *device = call->device;
    bool power = device->power.count != 0, limited = device->limit_mw != 0;
    if (!answers(call))
        return NVML_ERROR_NOT_SUPPORTED;
    field->type = TYPE_UNSIGNED;
    switch (field->id) {
    case FIELD_ENERGY:
        field->type = TYPE_UNSIGNED_LONG_LONG;
        field->value.wide_number = counter_mj(device, call->t_ns);
        return device->counter ? NVML_SUCCESS : NVML_ERROR_NOT_SUPPORTED;
    case FIELD_POWER_AVERAGE:
        field->value.number = power_mw(device, call->t_ns, SECOND_NS);
        return power ? NVML_SUCCESS : NVML_ERROR_NOT_SUPPORTED;
    case FIELD_POWER_INSTANT:
        field->value.number = power_mw(device, call->t_ns, 0);
        return power && device->instant ? NVML_SUCCESS : NVML_ERROR_NOT_SUPPORTED;
    case FIELD_LIMIT_MIN:
        field->value.number = 100000;
        return limited ? NVML_SUCCESS : NVML_ERROR_NOT_SUPPORTED;
    case FIELD_LIMIT_MAX:
    case FIELD_LIMIT_DEFAULT:
        field->value.number = (unsigned)device->limit_max_mw;
        return limited ? NVML_SUCCESS : NVML_ERROR_NOT_SUPPORTED;
    case FIELD_LIMIT_CURRENT:
        field->value.number = (unsigned)device->limit_mw;
        return limited ? NVML_SUCCESS : NVML_ERROR_NOT_SUPPORTED;
    default:
        return NVML_ERROR_NOT_SUPPORTED;
    }
}

API nvmlDeviceGetFieldValues(nvmlDevice_t handle, int count, struct field *fields)
{
    DEVICE_CALL(handle);
    for (int i = 0; i < count; i++) {
        struct field *field = &fields[i];
        field->timestamp_us = (int64_t)timestamp_us(&call, call.t_ns);
        field->latency_us = 0;
        field->value.wide_number = 0;
        field->code = call.world->fault_count != 0 ? field_fault(&call, field->id) : NVML_SUCCESS;
        if (field->code == NVML_SUCCESS)
            field->code = field_value(&call, field);
    }
    return leave(NVML_SUCCESS);
}

static unsigned sample_at(const struct device *device, int type, int64_t t_ns)
{
    if (type == 0)
        return power_mw(device, t_ns, device->samples_window_ns);
    return (unsigned)wave_at(type == 1 ? &device->utilization : &device->memory_utilization, t_ns);
}

API nvmlDeviceGetSamples(nvmlDevice_t handle, int type, uint64_t last_seen_us, int *value_type, unsigned *count,
                         struct sample *samples)
{
    WHOLE_GPU_CALL(handle);
    const struct device *device = call.device;
    int64_t period_ns = type == 0 ? device->samples_period_ns : device->use_period_ns;
    int64_t depth = type == 0 ? device->samples_depth : device->use_depth;
    if (type < 0 || type > 2 || period_ns <= 0 || (type == 0 && device->power.count == 0) || (type != 0 && device->mig))
        return leave(NVML_ERROR_NOT_SUPPORTED);
    *value_type = TYPE_UNSIGNED;
    if (samples == NULL) {
        *count = (unsigned)depth;
        return leave(NVML_SUCCESS);
    }
    int64_t newest = (int64_t)floor_div(call.t_ns, period_ns);
    unsigned filled = 0;
    for (int64_t k = newest - depth + 1; k <= newest && filled < *count; k++) {
        uint64_t at_us = timestamp_us(&call, k * period_ns);
        if (at_us > last_seen_us)
            samples[filled++] = (struct sample){ at_us, { .wide_number = sample_at(device, type, k * period_ns) } };
    }
    *count = filled;
    return leave(filled == 0 ? NVML_ERROR_NOT_FOUND : NVML_SUCCESS);
}
