/* The scenario file, line by line, into a world. The format is in README.md. */
#include "double.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct parser {
    const char *path;
    int line;
    char *rest;                         /* of the line, after the words taken */
    bool failed;
    struct world *world;
    enum scope scope;
};

__attribute__((format(printf, 2, 3))) static void fail(struct parser *p, const char *format, ...)
{
    if (p->failed)
        return;
    p->failed = true;
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "nvml double: %s:%d: ", p->path, p->line);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
}

static char *word(struct parser *p)
{
    char *found = strtok_r(NULL, " \t", &p->rest);
    if (found == NULL)
        fail(p, "the line ends too early");
    return found == NULL ? "" : found;
}

static int64_t number_in(struct parser *p, const char *text)
{
    char *end;
    errno = 0;
    if (strcmp(text, "-") == 0)
        return NOT_GIVEN;
    int64_t value = strtoll(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0)
        fail(p, "'%s' is not an integer", text);
    return value;
}

static int64_t number(struct parser *p) { return number_in(p, word(p)); }

/* An end of time may be "-": never. */
static int64_t end_of(struct parser *p)
{
    int64_t value = number(p);
    return value == NOT_GIVEN ? INT64_MAX : value;
}

static void text(struct parser *p, char *to, size_t size)
{
    while (p->rest != NULL && (*p->rest == ' ' || *p->rest == '\t'))
        p->rest++;
    if (p->rest == NULL || *p->rest == '\0' || strlen(p->rest) >= size)
        fail(p, "text is missing or too long");
    else
        strcpy(to, p->rest);
    p->rest = NULL;
}

static void points(struct parser *p, struct part *part)
{
    char *item;
    while ((item = strtok_r(NULL, " \t", &p->rest)) != NULL) {
        char *mark = strpbrk(item, ":/");
        if (mark == NULL) {
            fail(p, "'%s' is not TIME:LEVEL or TIME/LEVEL", item);
            return;
        }
        struct point *point = grow(&part->points, &part->point_count, sizeof *point);
        point->ramp = *mark == '/';
        *mark = '\0';
        point->at_ns = number_in(p, item);
        point->level = number_in(p, mark + 1);
        if (part->point_count > 1 && point->at_ns <= point[-1].at_ns)
            fail(p, "points must come in order of time");
    }
    if (part->point_count == 0)
        fail(p, "points needs at least one TIME:LEVEL");
}

static void wave(struct parser *p, struct wave *wave)
{
    struct part *part = grow(&wave->parts, &wave->count, sizeof *part);
    const char *kind = word(p);
    if (strcmp(kind, "constant") == 0) {
        part->low = number(p);
    } else if (strcmp(kind, "square") == 0 || strcmp(kind, "sine") == 0) {
        part->kind = kind[1] == 'q' ? WAVE_SQUARE : WAVE_SINE;
        part->low = number(p);
        part->high = number(p);
        part->period_ns = number(p);
        if (part->kind == WAVE_SQUARE)
            part->high_ns = number(p);
        part->phase_ns = number(p);
        if (part->period_ns <= 0 || part->high_ns < 0 || part->high_ns > part->period_ns)
            fail(p, "the period must be positive and hold the high part");
    } else if (strcmp(kind, "points") == 0) {
        part->kind = WAVE_POINTS;
        points(p, part);
    } else {
        fail(p, "'%s' is no waveform: constant, square, sine or points", kind);
    }
}

static void fault(struct parser *p)
{
    struct fault *fault = grow(&p->world->faults, &p->world->fault_count, sizeof *fault);
    snprintf(fault->function, TEXT_SIZE, "%s", word(p));
    if (strcmp(fault->function, "nvmlInitWithFlags") == 0)
        strcpy(fault->function, "nvmlInit");
    snprintf(fault->target, TEXT_SIZE, "%s", word(p));
    fault->from_ns = number(p);
    fault->to_ns = end_of(p);
    fault->skip_calls = number(p);
    fault->max_calls = end_of(p);
    const char *action = word(p);
    if (strcmp(action, "hang") == 0)
        fault->hang = true;
    else if (strcmp(action, "error") == 0)
        fault->code = number(p);
    else if (strcmp(action, "delay_ns") == 0)
        fault->delay_ns = number(p);
    else
        fail(p, "'%s' is no fault: error, hang or delay_ns", action);
}

static void open_device(struct parser *p)
{
    struct world *world = p->world;
    struct device *device = grow(&world->devices, &world->device_count, sizeof *device);
    p->scope = IN_DEVICE;
    text(p, device->uuid, TEXT_SIZE);
    device->minor = (int64_t)world->device_count - 1;
    device->memory_used_bytes = NOT_GIVEN;
    device->mig_pending = NOT_GIVEN;
    snprintf(device->pci, TEXT_SIZE, "00000000:%02X:00.0", (unsigned)world->device_count & 0xFF);
}

/* Lines that are more than KEY VALUE, inside the last device. False: no such word. */
static bool device_line(struct parser *p, struct device *d, const char *key)
{
    if (strcmp(key, "process") == 0) {
        struct process *process = grow(&d->processes, &d->process_count, sizeof *process);
        p->scope = IN_PROCESS;
        process->pid = number(p);
        process->gpu_instance = process->compute_instance = NO_INSTANCE;
    } else if (strcmp(key, "instance") == 0) {
        struct instance *instance = grow(&d->instances, &d->instance_count, sizeof *instance);
        p->scope = IN_INSTANCE;
        text(p, instance->uuid, TEXT_SIZE);
        instance->memory_used_bytes = NOT_GIVEN;
    } else if (strcmp(key, "chance") == 0 && p->scope == IN_PROCESS) {
        struct process *process = &d->processes[d->process_count - 1];
        process->by_chance = true;
        process->salt = number(p);
        process->low_ppm = number(p);
        process->high_ppm = number(p);
    } else if (strcmp(key, "counter_reset") == 0 || strcmp(key, "counter_jump") == 0) {
        struct counter_event *event = grow(&d->events, &d->event_count, sizeof *event);
        event->at_ns = number(p);
        event->reset = key[8] == 'r';
        event->add_mj = event->reset ? 0 : number(p);
    } else if (strcmp(key, "counter_fall") == 0) {
        struct counter_fall *fall = grow(&d->falls, &d->fall_count, sizeof *fall);
        fall->from_ns = number(p);
        fall->to_ns = end_of(p);
        fall->level_mj = number(p);
    } else if (strcmp(key, "junk") == 0) {
        struct junk *junk = grow(&d->junk, &d->junk_count, sizeof *junk);
        junk->pid = number(p);
        junk->sm = number(p);
        junk->age_ns = number(p);
        junk->every = number(p);
        if (junk->every <= 0)
            fail(p, "junk every N samples: N must be positive");
    } else {
        return false;
    }
    return true;
}

static void *target(struct parser *p, enum scope scope)
{
    struct world *world = p->world;
    if (scope == IN_WORLD)
        return world;
    struct device *device = &world->devices[world->device_count - 1];
    if (scope == IN_DEVICE)
        return device;
    return scope == IN_PROCESS ? (void *)&device->processes[device->process_count - 1]
                               : (void *)&device->instances[device->instance_count - 1];
}

static bool table_line(struct parser *p, enum scope scope, const char *name)
{
    const struct key *key = key_named(scope, name);
    if (key == NULL)
        return false;
    void *field = (char *)target(p, scope) + key->offset;
    if (key->type == INTEGER) {
        *(int64_t *)field = number(p);
    } else if (key->type == TEXT) {
        text(p, field, TEXT_SIZE);
    } else if (key->type == WAVE) {
        wave(p, field);
    } else {
        struct spans *spans = field;
        struct span *span = grow(&spans->items, &spans->count, sizeof *span);
        span->from_ns = number(p);
        span->to_ns = end_of(p);
    }
    return true;
}

static void line(struct parser *p, char *content)
{
    const char *key = strtok_r(content, " \t", &p->rest);
    if (key == NULL || *key == '#')
        return;
    if (strcmp(key, "device") == 0)
        open_device(p);
    else if (strcmp(key, "fault") == 0)
        fault(p);
    else if (strcmp(key, "clock_file") == 0)
        text(p, p->world->clock_file, sizeof p->world->clock_file);
    else if (!table_line(p, p->scope, key) && (p->world->device_count == 0
             || !device_line(p, &p->world->devices[p->world->device_count - 1], key)))
        fail(p, "'%s' is not known here", key);
    if (p->rest != NULL && strtok_r(NULL, " \t", &p->rest) != NULL)
        fail(p, "too many words after '%s'", key);
}

static void settle(struct parser *p)
{
    for (size_t i = 0; i < p->world->device_count; i++) {
        struct device *d = &p->world->devices[i];
        if (d->mig_pending == NOT_GIVEN)
            d->mig_pending = d->mig;
        if (d->counter_update_ns < 0 || d->use_period_ns < 0 || d->samples_period_ns < 0)
            fail(p, "a period of device %s is negative", d->uuid);
    }
}

struct world *world_read(const char *path)
{
    struct parser p = { .path = path };
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        fail(&p, "cannot be opened: %s", strerror(errno));
        return NULL;
    }
    p.world = calloc(1, sizeof *p.world);
    if (p.world == NULL)
        abort();
    p.world->timestamp_offset_ns = NOT_GIVEN;
    char *content = NULL;
    size_t size = 0;
    while (!p.failed && getline(&content, &size, file) >= 0) {
        p.line++;
        content[strcspn(content, "\n")] = '\0';
        line(&p, content);
    }
    settle(&p);
    free(content);
    fclose(file);
    if (p.failed) {
        world_free(p.world);
        return NULL;
    }
    return p.world;
}
