/* The memory that a world is made of. */
#include "double.h"

#include <stdlib.h>
#include <string.h>

void *grow(void *array, size_t *count, size_t size)
{
    void **items = array;
    char *larger = realloc(*items, (*count + 1) * size);
    if (larger == NULL)
        abort();
    *items = larger;
    return memset(larger + (*count)++ * size, 0, size);
}

static void wave_free(struct wave *wave)
{
    for (size_t i = 0; i < wave->count; i++)
        free(wave->parts[i].points);
    free(wave->parts);
}

static void device_free(struct device *d)
{
    for (size_t i = 0; i < d->process_count; i++) {
        struct process *process = &d->processes[i];
        wave_free(&process->sm), wave_free(&process->mem), wave_free(&process->enc), wave_free(&process->dec);
        free(process->present.items);
    }
    for (size_t i = 0; i < d->instance_count; i++)
        free(d->instances[i].present.items);
    wave_free(&d->power), wave_free(&d->utilization), wave_free(&d->memory_utilization);
    free(d->absent.items), free(d->lost.items), free(d->freezes.items);
    free(d->events), free(d->falls), free(d->junk), free(d->processes), free(d->instances);
}

void world_free(struct world *world)
{
    if (world == NULL)
        return;
    for (size_t i = 0; i < world->device_count; i++)
        device_free(&world->devices[i]);
    free(world->devices);
    free(world->faults);
    free(world);
}
