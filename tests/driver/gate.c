/* What every call passes: one lock, the scenario's newest version, its faults, and the device behind the handle. */
#define _GNU_SOURCE
#include "double.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define SLOTS 4096
#define CHECK_EVERY_NS (SECOND_NS / 10)

/* A handle outlives every version of the scenario: it belongs to a UUID, which may come and go. */
struct slot {
    char uuid[TEXT_SIZE];
    bool is_instance;
    struct device *device;              /* NULL while no version of the scenario has it */
    struct instance *instance;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct slot slots[SLOTS];
static size_t slot_count;
static struct world *world;
static bool bad;                        /* the newest version of the file could not be read */
static struct stat seen;
static int64_t checked_ns;
static const int64_t *clock_map;
static char clock_path[4096];
static int64_t real_minus_boot_ns;
static int opened;                      /* nvmlInit calls less nvmlShutdown calls */
static nvmlDevice_t *order_at_init;
static size_t order_count;

static int64_t clock_ns(clockid_t which)
{
    struct timespec now;
    clock_gettime(which, &now);
    return now.tv_sec * SECOND_NS + now.tv_nsec;
}

static nvmlDevice_t slot_for(const char *uuid, bool is_instance)
{
    for (size_t i = 0; i < slot_count; i++)
        if (strcmp(slots[i].uuid, uuid) == 0)
            return &slots[i];
    if (slot_count == SLOTS)
        abort();
    struct slot *slot = &slots[slot_count++];
    strcpy(slot->uuid, uuid);
    slot->is_instance = is_instance;
    return slot;
}

static void bind_slots(void)
{
    for (size_t i = 0; i < slot_count; i++)
        slots[i].device = NULL, slots[i].instance = NULL;
    for (size_t i = 0; i < world->device_count; i++) {
        struct device *device = &world->devices[i];
        device->slot = slot_for(device->uuid, false);
        device->slot->device = device;
        for (size_t j = 0; device->mig && j < device->instance_count; j++) {
            struct instance *instance = &device->instances[j];
            instance->slot = slot_for(instance->uuid, true);
            instance->slot->device = device;
            instance->slot->instance = instance;
        }
    }
}

static bool map_clock(void)
{
    if (world->clock_file[0] == '\0' || strcmp(world->clock_file, clock_path) == 0)
        return true;
    int file = open(world->clock_file, O_RDONLY | O_CLOEXEC);
    struct stat status;
    void *map = MAP_FAILED;
    if (file >= 0 && fstat(file, &status) == 0 && status.st_size >= (off_t)sizeof(int64_t))
        map = mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
    if (file >= 0)
        close(file);
    if (map == MAP_FAILED) {
        fprintf(stderr, "nvml double: clock file %s cannot be mapped, or is shorter than 8 bytes\n", world->clock_file);
        return false;
    }
    if (clock_map != NULL)
        munmap((void *)clock_map, sizeof(int64_t));
    clock_map = map;
    strcpy(clock_path, world->clock_file);
    return true;
}

static void refresh(bool at_once)
{
    int64_t now = clock_ns(CLOCK_MONOTONIC_COARSE);
    if (!at_once && now - checked_ns < CHECK_EVERY_NS)
        return;
    checked_ns = now;
    const char *path = getenv("NVML_DOUBLE_SCENARIO");
    struct stat status;
    if (path == NULL || stat(path, &status) != 0)
        return;                         /* the last version stays in force */
    if (world != NULL && status.st_ino == seen.st_ino && status.st_size == seen.st_size
        && status.st_mtim.tv_sec == seen.st_mtim.tv_sec && status.st_mtim.tv_nsec == seen.st_mtim.tv_nsec)
        return;
    struct world *next = world_read(path);
    seen = status;
    bad = next == NULL;
    if (bad)
        return;
    world_free(world);
    world = next;
    bad = !map_clock();
    bind_slots();
    if (real_minus_boot_ns == 0)
        real_minus_boot_ns = clock_ns(CLOCK_REALTIME) - clock_ns(CLOCK_BOOTTIME);
    if (world->timestamp_offset_ns == NOT_GIVEN)
        world->timestamp_offset_ns = world->clock_file[0] != '\0' ? 0 : real_minus_boot_ns;
}

static int64_t now_ns(void)
{
    int64_t now = world->clock_file[0] != '\0' ? __atomic_load_n(clock_map, __ATOMIC_ACQUIRE) : clock_ns(CLOCK_BOOTTIME);
    return now - world->epoch_ns;
}

__attribute__((noreturn)) static void hang(void)
{
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    for (;;)
        pause();
}

/* Called and left with the lock held, which a hang or a delay lets go of meanwhile. */
static nvmlReturn_t suffer(const char *function, const char *uuid)
{
    struct verdict verdict = judge(world, function, uuid, now_ns());
    if (!verdict.hang && verdict.delay_ns == 0)
        return verdict.code;
    pthread_mutex_unlock(&lock);
    if (verdict.hang)
        hang();
    struct timespec left = { verdict.delay_ns / SECOND_NS, verdict.delay_ns % SECOND_NS };
    while (nanosleep(&left, &left) != 0)
        ;
    pthread_mutex_lock(&lock);
    return verdict.code;
}

nvmlReturn_t leave(nvmlReturn_t code)
{
    pthread_mutex_unlock(&lock);
    return code;
}

nvmlReturn_t enter_system(struct call *call, const char *function)
{
    pthread_mutex_lock(&lock);
    if (opened == 0)
        return leave(NVML_ERROR_UNINITIALIZED);
    refresh(strncmp(function, "nvmlDeviceGetCount", 18) == 0);
    if (bad)
        return leave(NVML_ERROR_UNKNOWN);
    nvmlReturn_t code = suffer(function, NULL);
    if (code != NVML_SUCCESS)
        return leave(code);
    *call = (struct call){ .world = world, .t_ns = now_ns() };
    return NVML_SUCCESS;
}

nvmlReturn_t enter_device(struct call *call, const char *function, nvmlDevice_t handle)
{
    pthread_mutex_lock(&lock);
    if (opened == 0)
        return leave(NVML_ERROR_UNINITIALIZED);
    refresh(false);
    if (bad)
        return leave(NVML_ERROR_UNKNOWN);
    if (handle < slots || handle >= slots + slot_count)
        return leave(NVML_ERROR_INVALID_ARGUMENT);
    nvmlReturn_t code = suffer(function, handle->uuid);
    if (code != NVML_SUCCESS)
        return leave(code);
    int64_t t_ns = now_ns();
    if (handle->is_instance && (handle->instance == NULL || !is_there(&handle->instance->present, t_ns)))
        return leave(NVML_ERROR_NOT_FOUND);
    if (handle->device == NULL || device_gone(handle->device, t_ns))
        return leave(NVML_ERROR_GPU_IS_LOST);
    *call = (struct call){ world, handle->device, handle->instance, t_ns };
    return NVML_SUCCESS;
}

nvmlReturn_t driver_open(const char *function)
{
    pthread_mutex_lock(&lock);
    refresh(true);
    if (world == NULL && !bad) {
        fprintf(stderr, "nvml double: NVML_DOUBLE_SCENARIO names no file, so there is no driver\n");
        return leave(NVML_ERROR_DRIVER_NOT_LOADED);
    }
    nvmlReturn_t code = bad ? NVML_ERROR_UNKNOWN : suffer(function, NULL);
    if (code != NVML_SUCCESS)
        return leave(code);
    if (opened++ == 0) {
        struct call call = { .world = world, .t_ns = now_ns() };
        order_count = 0;
        for (size_t i = 0; i < world->device_count; i++)
            if (!within(&world->devices[i].absent, call.t_ns))
                *(nvmlDevice_t *)grow(&order_at_init, &order_count, sizeof *order_at_init) = world->devices[i].slot;
    }
    return leave(NVML_SUCCESS);
}

nvmlReturn_t driver_close(void)
{
    struct call call;
    nvmlReturn_t code = enter_system(&call, "nvmlShutdown");
    if (code != NVML_SUCCESS)
        return code;
    opened--;
    return leave(NVML_SUCCESS);
}

nvmlReturn_t handle_at(struct call *call, size_t index, nvmlDevice_t *handle)
{
    if (world->enumerate_at_init) {
        if (index >= order_count)
            return NVML_ERROR_INVALID_ARGUMENT;
        *handle = order_at_init[index];
    } else {
        size_t i = 0;
        for (; i < world->device_count; i++)
            if (!within(&world->devices[i].absent, call->t_ns) && index-- == 0)
                break;
        if (i == world->device_count)
            return NVML_ERROR_INVALID_ARGUMENT;
        *handle = world->devices[i].slot;
    }
    struct device *device = (*handle)->device;
    return device == NULL || device_gone(device, call->t_ns) ? NVML_ERROR_GPU_IS_LOST : NVML_SUCCESS;
}

size_t enumerated(struct call *call)
{
    if (world->enumerate_at_init)
        return order_count;
    size_t count = 0;
    for (size_t i = 0; i < world->device_count; i++)
        count += !within(&world->devices[i].absent, call->t_ns);
    return count;
}

const struct device *device_of(nvmlDevice_t handle)
{
    return handle->device;
}

nvmlDevice_t handle_of(const struct call *call, const char *uuid)
{
    for (size_t i = 0; i < slot_count; i++)
        if (strcmp(slots[i].uuid, uuid) == 0)
            return slots[i].device == NULL || within(&slots[i].device->absent, call->t_ns) ? NULL : &slots[i];
    return NULL;
}
