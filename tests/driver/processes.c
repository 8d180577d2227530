/* Who is on the device, and how much of it each process used. */
#include "double.h"

struct listed { unsigned pid; uint64_t memory; unsigned gpu_instance, compute_instance; };
struct listed_v1 { unsigned pid; uint64_t memory; };
struct use { unsigned pid; uint64_t timestamp_us; unsigned sm, mem, enc, dec; };
struct use_v1 { uint64_t timestamp_us; unsigned pid, sm, mem, enc, dec, jpg, ofa; };
struct uses_v1 { unsigned version, count; uint64_t last_seen_us; struct use_v1 *rows; };
struct statistics { unsigned gpu, memory; uint64_t most_memory, time_ms, start_us; unsigned running, reserved[5]; };

static bool listed_here(const struct call *call, const struct process *process, int kind)
{
    return process->kind == kind && is_there(&process->present, call->t_ns)
        && (call->instance == NULL || process->gpu_instance == call->instance->gpu_instance);
}

static nvmlReturn_t list(nvmlDevice_t handle, const char *function, int kind, unsigned *count, void *to, bool v1)
{
    struct call call;
    nvmlReturn_t code = enter_device(&call, function, handle);
    if (code != NVML_SUCCESS)
        return code;
    unsigned room = to == NULL ? 0 : *count, found = 0;
    for (size_t i = 0; i < call.device->process_count; i++) {
        const struct process *process = &call.device->processes[i];
        if (!listed_here(&call, process, kind))
            continue;
        uint64_t memory = process->memory_bytes == NOT_GIVEN ? NOT_AVAILABLE_U64 : (uint64_t)process->memory_bytes;
        if (found < room && v1)
            ((struct listed_v1 *)to)[found] = (struct listed_v1){ (unsigned)process->pid, memory };
        else if (found < room)
            ((struct listed *)to)[found] = (struct listed){ (unsigned)process->pid, memory,
                (unsigned)process->gpu_instance, (unsigned)process->compute_instance };
        found++;
    }
    *count = found;
    return leave(found > room ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS);
}

#define LIST(name, kind, v1) \
    API name(nvmlDevice_t handle, unsigned *count, void *to) { return list(handle, __func__, kind, count, to, v1); }

LIST(nvmlDeviceGetComputeRunningProcesses, KIND_COMPUTE, true)
LIST(nvmlDeviceGetComputeRunningProcesses_v2, KIND_COMPUTE, false)
LIST(nvmlDeviceGetComputeRunningProcesses_v3, KIND_COMPUTE, false)
LIST(nvmlDeviceGetGraphicsRunningProcesses, KIND_GRAPHICS, true)
LIST(nvmlDeviceGetGraphicsRunningProcesses_v2, KIND_GRAPHICS, false)
LIST(nvmlDeviceGetGraphicsRunningProcesses_v3, KIND_GRAPHICS, false)
LIST(nvmlDeviceGetMPSComputeRunningProcesses, KIND_MPS, true)
LIST(nvmlDeviceGetMPSComputeRunningProcesses_v2, KIND_MPS, false)
LIST(nvmlDeviceGetMPSComputeRunningProcesses_v3, KIND_MPS, false)

/* splitmix64 over the seed, the salt and the sample: the same draw in every process and every run. */
static uint64_t mixed(uint64_t x)
{
    x += 0x9E3779B97F4A7C15u;
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
    x = (x ^ x >> 27) * 0x94D049BB133111EBu;
    return x ^ x >> 31;
}

static bool drawn(const struct device *device, const struct process *process, int64_t sample)
{
    uint64_t draw = mixed(mixed(mixed((uint64_t)device->seed) ^ (uint64_t)process->salt) ^ (uint64_t)sample) % 1000000;
    return draw >= (uint64_t)process->low_ppm && draw < (uint64_t)process->high_ppm;
}

/* Mean level over the sample's slot, counting zero where the process was not there. */
static unsigned mean_there(const struct process *process, const struct wave *wave, int64_t from_ns, int64_t to_ns)
{
    if (process->present.count == 0)
        return (unsigned)wave_mean(wave, from_ns, to_ns);
    wide sum = 0, length = to_ns - from_ns;
    for (size_t i = 0; i < process->present.count; i++) {
        const struct span *span = &process->present.items[i];
        int64_t start = span->from_ns > from_ns ? span->from_ns : from_ns;
        int64_t end = span->to_ns < to_ns ? span->to_ns : to_ns;
        if (start < end)
            sum += wave_integral(wave, start, end);
    }
    return (unsigned)floor_div(sum + length / 2, length);
}

/* What the process made of the time, when it was there: chance counts as its expectation. */
double process_sm_percent(const struct process *process, int64_t from_ns, int64_t to_ns)
{
    if (process->by_chance)
        return (double)(process->high_ppm - process->low_ppm) / 10000;
    return mean_there(process, &process->sm, from_ns, to_ns);
}

static struct use used(const struct call *call, const struct process *process, int64_t sample)
{
    const struct device *device = call->device;
    int64_t to_ns = sample * device->use_period_ns, from_ns = to_ns - device->use_period_ns;
    struct use use = { .pid = (unsigned)process->pid, .timestamp_us = timestamp_us(call, to_ns) };
    if (process->by_chance)
        use.sm = is_there(&process->present, to_ns) && drawn(device, process, sample) ? 100 : 0;
    else
        use.sm = mean_there(process, &process->sm, from_ns, to_ns);
    use.mem = mean_there(process, &process->mem, from_ns, to_ns);
    use.enc = mean_there(process, &process->enc, from_ns, to_ns);
    use.dec = mean_there(process, &process->dec, from_ns, to_ns);
    return use;
}

struct rows { struct use *to; struct use_v1 *to_v1; unsigned room, found; };

static void put(struct rows *rows, struct use use)
{
    if (rows->found < rows->room && rows->to != NULL)
        rows->to[rows->found] = use;
    else if (rows->found < rows->room && rows->to_v1 != NULL)
        rows->to_v1[rows->found] = (struct use_v1){ use.timestamp_us, use.pid, use.sm, use.mem, use.enc, use.dec, 0, 0 };
    rows->found++;
}

static void put_junk(struct rows *rows, const struct call *call, int64_t sample)
{
    for (size_t i = 0; i < call->device->junk_count; i++) {
        const struct junk *junk = &call->device->junk[i];
        int64_t at_ns = sample * call->device->use_period_ns - junk->age_ns;
        if (sample % junk->every == 0)
            put(rows, (struct use){ (unsigned)junk->pid, timestamp_us(call, at_ns), (unsigned)junk->sm, 0, 0, 0 });
    }
}

/* Every sample of every process that did something in it, oldest first; with use_summary only each one's newest. */
static void gather(struct rows *rows, const struct call *call, uint64_t last_seen_us)
{
    const struct device *device = call->device;
    int64_t newest = (int64_t)floor_div(call->t_ns, device->use_period_ns), oldest = newest - device->use_depth + 1;
    while (oldest <= newest && timestamp_us(call, oldest * device->use_period_ns) <= last_seen_us)
        oldest++;
    for (int64_t sample = oldest; sample <= newest && !device->use_summary; sample++) {
        for (size_t i = 0; i < device->process_count; i++) {
            struct use use = used(call, &device->processes[i], sample);
            if (use.sm || use.mem || use.enc || use.dec)
                put(rows, use);
        }
        put_junk(rows, call, sample);
    }
    for (size_t i = 0; device->use_summary && i < device->process_count; i++)
        for (int64_t sample = newest; sample >= oldest; sample--) {
            struct use use = used(call, &device->processes[i], sample);
            if (!use.sm && !use.mem && !use.enc && !use.dec)
                continue;
            put(rows, use);
            break;
        }
}

static nvmlReturn_t settle(const struct call *call, const struct rows *rows)
{
    if (rows->found == 0)
        return call->device->use_empty_success ? NVML_SUCCESS : NVML_ERROR_NOT_FOUND;
    return rows->found > rows->room ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS;
}

static bool samples_use(const struct call *call)
{
    return call->instance == NULL && !call->device->mig && call->device->use_period_ns > 0;
}

API nvmlDeviceGetProcessUtilization(nvmlDevice_t handle, struct use *to, unsigned *count, uint64_t last_seen_us)
{
    DEVICE_CALL(handle);
    if (!samples_use(&call))
        return leave(NVML_ERROR_NOT_SUPPORTED);
    struct rows rows = { .to = to, .room = to == NULL ? 0 : *count };
    gather(&rows, &call, last_seen_us);
    *count = rows.found;
    return leave(settle(&call, &rows));
}

API nvmlDeviceGetProcessesUtilizationInfo(nvmlDevice_t handle, struct uses_v1 *info)
{
    DEVICE_CALL(handle);
    if (!samples_use(&call))
        return leave(NVML_ERROR_NOT_SUPPORTED);
    if (info->version != (1u << 24 | sizeof *info))
        return leave(NVML_ERROR_ARGUMENT_VERSION_MISMATCH);
    struct rows rows = { .to_v1 = info->rows, .room = info->rows == NULL ? 0 : info->count };
    gather(&rows, &call, info->last_seen_us);
    info->count = rows.found;
    return leave(settle(&call, &rows));
}

API nvmlDeviceGetAccountingMode(nvmlDevice_t handle, unsigned *mode)
{
    WHOLE_GPU_CALL(handle);
    *mode = (unsigned)call.device->accounting;
    return leave(NVML_SUCCESS);
}

API nvmlDeviceGetAccountingBufferSize(nvmlDevice_t handle, unsigned *size)
{
    WHOLE_GPU_CALL(handle);
    *size = 4000;
    return leave(NVML_SUCCESS);
}

static bool accounted(const struct call *call, const struct process *process)
{
    return process->accounting && (process->present.count == 0 || process->present.items[0].from_ns <= call->t_ns);
}

API nvmlDeviceGetAccountingPids(nvmlDevice_t handle, unsigned *count, unsigned *pids)
{
    WHOLE_GPU_CALL(handle);
    if (!call.device->accounting)
        return leave(NVML_ERROR_NOT_SUPPORTED);
    unsigned room = pids == NULL ? 0 : *count, found = 0;
    for (size_t i = 0; i < call.device->process_count; i++) {
        if (!accounted(&call, &call.device->processes[i]))
            continue;
        if (found < room)
            pids[found] = (unsigned)call.device->processes[i].pid;
        found++;
    }
    *count = found;
    return leave(found > room ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS);
}

API nvmlDeviceGetAccountingStats(nvmlDevice_t handle, unsigned pid, struct statistics *to)
{
    WHOLE_GPU_CALL(handle);
    if (!call.device->accounting)
        return leave(NVML_ERROR_NOT_SUPPORTED);
    for (size_t i = call.device->process_count; i-- > 0;) {     /* a reused pid: the latest owner */
        const struct process *process = &call.device->processes[i];
        if (process->pid != pid || !accounted(&call, process))
            continue;
        bool always = process->present.count == 0;
        int64_t from_ns = always ? 0 : process->present.items[0].from_ns;
        int64_t end_ns = always ? INT64_MAX : process->present.items[process->present.count - 1].to_ns;
        int64_t to_ns = end_ns < call.t_ns ? end_ns : call.t_ns;
        *to = (struct statistics){ .start_us = timestamp_us(&call, from_ns), .running = end_ns > call.t_ns };
        to->time_ms = (uint64_t)(to_ns - from_ns) / 1000000;
        to->most_memory = process->memory_bytes == NOT_GIVEN ? NOT_AVAILABLE_U64 : (uint64_t)process->memory_bytes;
        if (process->by_chance)
            to->gpu = (unsigned)((process->high_ppm - process->low_ppm) / 10000);
        else if (to_ns > from_ns)
            to->gpu = mean_there(process, &process->sm, from_ns, to_ns);
        to->memory = to_ns > from_ns ? mean_there(process, &process->mem, from_ns, to_ns) : 0;
        return leave(NVML_SUCCESS);
    }
    return leave(NVML_ERROR_NOT_FOUND);
}
