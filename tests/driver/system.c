/* The library itself: opening, closing, versions, and finding devices. */
#include "double.h"

#include <stdio.h>
#include <string.h>

static const struct { nvmlReturn_t code; const char *text; } errors[] = {
    { 0, "Success" }, { 1, "Uninitialized" }, { 2, "Invalid Argument" }, { 3, "Not Supported" },
    { 4, "Insufficient Permissions" }, { 5, "Already Initialized" }, { 6, "Not Found" }, { 7, "Insufficient Size" },
    { 8, "Insufficient External Power" }, { 9, "Driver Not Loaded" }, { 10, "Timeout" },
    { 11, "Interrupt Request Issue" }, { 12, "NVML Shared Library Not Found" }, { 13, "Function Not Found" },
    { 14, "Corrupted infoROM" }, { 15, "GPU is lost" }, { 16, "GPU requires reset" },
    { 17, "GPU access blocked by the operating system" }, { 18, "Driver/library version mismatch" },
    { 19, "In use by another client" }, { 20, "Insufficient Memory" }, { 21, "No data" },
    { 25, "Argument version mismatch" }, { 27, "Not Ready" }, { 28, "GPU not found" }, { 29, "Invalid state" },
};

__attribute__((visibility("default"))) const char *nvmlErrorString(nvmlReturn_t code)
{
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
        if (errors[i].code == code)
            return errors[i].text;
    return "Unknown Error";
}

API nvmlInit_v2(void) { return driver_open("nvmlInit"); }
API nvmlInit(void) { return driver_open("nvmlInit"); }
API nvmlInitWithFlags(unsigned flags)
{
    (void)flags;
    return driver_open("nvmlInit");
}
API nvmlShutdown(void) { return driver_close(); }

nvmlReturn_t put_text(char *to, unsigned size, const char *text)
{
    if (to == NULL)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (strlen(text) >= size)
        return NVML_ERROR_INSUFFICIENT_SIZE;
    strcpy(to, text);
    return NVML_SUCCESS;
}

API nvmlSystemGetDriverVersion(char *version, unsigned size)
{
    SYSTEM_CALL();
    return leave(put_text(version, size, call.world->driver));
}

API nvmlSystemGetNVMLVersion(char *version, unsigned size)
{
    SYSTEM_CALL();
    return leave(put_text(version, size, call.world->nvml));
}

API nvmlSystemGetCudaDriverVersion(int *version)
{
    SYSTEM_CALL();
    *version = (int)call.world->cuda;
    return leave(NVML_SUCCESS);
}

API nvmlSystemGetCudaDriverVersion_v2(int *version)
{
    SYSTEM_CALL();
    *version = (int)call.world->cuda;
    return leave(NVML_SUCCESS);
}

API nvmlSystemGetProcessName(unsigned pid, char *name, unsigned size)
{
    SYSTEM_CALL();
    char path[64], found[256] = "";
    snprintf(path, sizeof path, "/proc/%u/comm", pid);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return leave(NVML_ERROR_NOT_FOUND);
    char *line = fgets(found, sizeof found, file);
    fclose(file);
    found[strcspn(found, "\n")] = '\0';
    return leave(line == NULL ? NVML_ERROR_NOT_FOUND : put_text(name, size, found));
}

API nvmlDeviceGetCount_v2(unsigned *count)
{
    SYSTEM_CALL();
    *count = (unsigned)enumerated(&call);
    return leave(NVML_SUCCESS);
}

API nvmlDeviceGetCount(unsigned *count)
{
    SYSTEM_CALL();
    *count = (unsigned)enumerated(&call);
    return leave(NVML_SUCCESS);
}

/* A fault aimed at one device strikes here too, once it is known which device is meant. */
static nvmlReturn_t give(const char *function, nvmlDevice_t handle, nvmlDevice_t *to)
{
    leave(NVML_SUCCESS);
    struct call call;
    nvmlReturn_t code = enter_device(&call, function, handle);
    if (code != NVML_SUCCESS)
        return code;
    *to = handle;
    return leave(NVML_SUCCESS);
}

static nvmlReturn_t by_index(const char *function, unsigned index, nvmlDevice_t *to)
{
    struct call call;
    nvmlReturn_t code = enter_system(&call, "");
    nvmlDevice_t handle = NULL;
    if (code != NVML_SUCCESS)
        return code;
    code = handle_at(&call, index, &handle);
    return handle == NULL ? leave(code) : give(function, handle, to);
}

API nvmlDeviceGetHandleByIndex_v2(unsigned index, nvmlDevice_t *to) { return by_index(__func__, index, to); }
API nvmlDeviceGetHandleByIndex(unsigned index, nvmlDevice_t *to) { return by_index(__func__, index, to); }

API nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *to)
{
    struct call call;
    nvmlReturn_t code = enter_system(&call, "");
    if (code != NVML_SUCCESS)
        return code;
    nvmlDevice_t handle = handle_of(&call, uuid);
    return handle == NULL ? leave(NVML_ERROR_NOT_FOUND) : give(__func__, handle, to);
}

static bool same_pci(const char *left, const char *right)
{
    unsigned a[3], b[3];
    return sscanf(left, "%x:%x:%x", &a[0], &a[1], &a[2]) == 3 && sscanf(right, "%x:%x:%x", &b[0], &b[1], &b[2]) == 3
        && memcmp(a, b, sizeof a) == 0;
}

API nvmlDeviceGetHandleByPciBusId_v2(const char *bus_id, nvmlDevice_t *to)
{
    struct call call;
    nvmlReturn_t code = enter_system(&call, "");
    if (code != NVML_SUCCESS)
        return code;
    for (size_t i = 0; i < call.world->device_count; i++)
        if (same_pci(call.world->devices[i].pci, bus_id))
            return give(__func__, call.world->devices[i].slot, to);
    return leave(NVML_ERROR_NOT_FOUND);
}
