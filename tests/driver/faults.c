/* Which of the scenario's faults strike a call. */
#include "double.h"

#include <stdio.h>
#include <string.h>

/* "nvmlX" names every version of it, "nvmlX_v3" one. */
static bool names(const char *fault, const char *function)
{
    size_t length = strlen(fault);
    return strcmp(fault, "*") == 0
        || (strncmp(fault, function, length) == 0
            && (function[length] == '\0' || strncmp(function + length, "_v", 2) == 0));
}

static bool strikes(struct fault *fault, const char *function, const char *uuid, int64_t t_ns)
{
    if (t_ns < fault->from_ns || t_ns >= fault->to_ns || !names(fault->function, function)
        || (strcmp(fault->target, "*") != 0 && (uuid == NULL || strcmp(fault->target, uuid) != 0)))
        return false;
    int64_t call = fault->seen++;
    return call >= fault->skip_calls && call - fault->skip_calls < fault->max_calls;
}

struct verdict judge(struct world *world, const char *function, const char *uuid, int64_t t_ns)
{
    struct verdict verdict = { 0 };
    for (size_t i = 0; i < world->fault_count; i++) {
        struct fault *fault = &world->faults[i];
        if (!strikes(fault, function, uuid, t_ns))
            continue;
        verdict.hang |= fault->hang;
        verdict.delay_ns += fault->delay_ns;
        if (verdict.code == NVML_SUCCESS)
            verdict.code = (nvmlReturn_t)fault->code;
    }
    return verdict;
}

nvmlReturn_t field_fault(const struct call *call, unsigned field)
{
    char name[TEXT_SIZE];
    snprintf(name, sizeof name, "nvmlDeviceGetFieldValues:%u", field);
    const char *uuid = call->instance != NULL ? call->instance->uuid : call->device->uuid;
    for (size_t i = 0; i < call->world->fault_count; i++) {
        struct fault *fault = &call->world->faults[i];
        if (strcmp(fault->function, name) == 0 && strikes(fault, name, uuid, call->t_ns))
            return (nvmlReturn_t)fault->code;
    }
    return NVML_SUCCESS;
}
