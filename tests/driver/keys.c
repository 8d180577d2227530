/* Which field of which record a plain line of the scenario fills. */
#include "double.h"

#include <string.h>

#define W(word, type, field) { IN_WORLD, word, type, offsetof(struct world, field) }
#define D(word, type, field) { IN_DEVICE, word, type, offsetof(struct device, field) }
#define P(word, type, field) { IN_PROCESS, word, type, offsetof(struct process, field) }
#define M(word, type, field) { IN_INSTANCE, word, type, offsetof(struct instance, field) }

static const struct key keys[] = {
    W("driver", TEXT, driver), W("nvml", TEXT, nvml), W("cuda", INTEGER, cuda), W("epoch_ns", INTEGER, epoch_ns),
    W("timestamp_offset_ns", INTEGER, timestamp_offset_ns), W("enumerate_at_init", INTEGER, enumerate_at_init),
    D("name", TEXT, name), D("pci", TEXT, pci), D("serial", TEXT, serial), D("minor", INTEGER, minor),
    D("architecture", INTEGER, architecture), D("brand", INTEGER, brand),
    D("cuda_major", INTEGER, cuda_major), D("cuda_minor", INTEGER, cuda_minor),
    D("persistence", INTEGER, persistence), D("pstate", INTEGER, pstate), D("seed", INTEGER, seed),
    D("limit_mw", INTEGER, limit_mw), D("limit_max_mw", INTEGER, limit_max_mw),
    D("temperature_c", INTEGER, temperature_c), D("memory_total_bytes", INTEGER, memory_total_bytes),
    D("memory_used_bytes", INTEGER, memory_used_bytes), D("memory_reserved_bytes", INTEGER, memory_reserved_bytes),
    D("absent", SPANS, absent), D("lost", SPANS, lost), D("power", WAVE, power),
    D("utilization", WAVE, utilization), D("memory_utilization", WAVE, memory_utilization),
    D("power_window_ns", INTEGER, power_window_ns), D("power_update_ns", INTEGER, power_update_ns),
    D("instant", INTEGER, instant), D("counter", INTEGER, counter),
    D("counter_update_ns", INTEGER, counter_update_ns), D("counter_offset_mj", INTEGER, counter_offset_mj),
    D("counter_freeze", SPANS, freezes), D("samples_period_ns", INTEGER, samples_period_ns),
    D("samples_depth", INTEGER, samples_depth), D("samples_window_ns", INTEGER, samples_window_ns),
    D("use_period_ns", INTEGER, use_period_ns), D("use_depth", INTEGER, use_depth),
    D("use_empty_success", INTEGER, use_empty_success), D("use_summary", INTEGER, use_summary),
    D("accounting", INTEGER, accounting), D("gpm", INTEGER, gpm), D("mig", INTEGER, mig), D("mig_pending", INTEGER, mig_pending),
    D("mig_max", INTEGER, mig_max), D("mig_repeats_parent", INTEGER, mig_repeats_parent),
    P("kind", INTEGER, kind), P("memory_bytes", INTEGER, memory_bytes), P("gpu_instance", INTEGER, gpu_instance),
    P("compute_instance", INTEGER, compute_instance), P("accounting", INTEGER, accounting),
    P("present", SPANS, present), P("sm", WAVE, sm), P("mem", WAVE, mem), P("enc", WAVE, enc), P("dec", WAVE, dec),
    M("name", TEXT, name), M("gpu_instance", INTEGER, gpu_instance),
    M("compute_instance", INTEGER, compute_instance), M("gpu_slices", INTEGER, gpu_slices),
    M("compute_slices", INTEGER, compute_slices), M("multiprocessors", INTEGER, multiprocessors),
    M("memory_total_bytes", INTEGER, memory_total_bytes), M("memory_used_bytes", INTEGER, memory_used_bytes),
    M("present", SPANS, present),
};

const struct key *key_named(enum scope scope, const char *word)
{
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (keys[i].scope == scope && strcmp(keys[i].word, word) == 0)
            return &keys[i];
    return NULL;
}
