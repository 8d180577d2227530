/* The double's own records: one world parsed from the scenario file, and the gate every entry point passes through.
 *
 * Times are nanoseconds since the scenario's epoch, powers milliwatts, energies millijoules, unless a name says otherwise.
 */
#ifndef NVML_DOUBLE_H
#define NVML_DOUBLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef int nvmlReturn_t;
typedef struct slot *nvmlDevice_t;
typedef __int128 wide;                  /* milliwatts x nanoseconds outgrow 64 bits within hours */

#define API __attribute__((visibility("default"))) nvmlReturn_t
#define NOT_GIVEN INT64_MIN             /* a "-" in the scenario */
#define TEXT_SIZE 96
#define NOT_AVAILABLE_U64 UINT64_MAX
#define NO_INSTANCE 0xFFFFFFFFu
#define SECOND_NS INT64_C(1000000000)

enum {
    NVML_SUCCESS = 0,
    NVML_ERROR_UNINITIALIZED = 1,
    NVML_ERROR_INVALID_ARGUMENT = 2,
    NVML_ERROR_NOT_SUPPORTED = 3,
    NVML_ERROR_NOT_FOUND = 6,
    NVML_ERROR_INSUFFICIENT_SIZE = 7,
    NVML_ERROR_DRIVER_NOT_LOADED = 9,
    NVML_ERROR_GPU_IS_LOST = 15,
    NVML_ERROR_MEMORY = 20,
    NVML_ERROR_ARGUMENT_VERSION_MISMATCH = 25,
    NVML_ERROR_UNKNOWN = 999,
};

enum wave_kind { WAVE_CONSTANT, WAVE_SQUARE, WAVE_SINE, WAVE_POINTS };

struct point {
    int64_t at_ns, level;
    bool ramp;                          /* towards the next point, instead of holding until it */
};

struct part {
    enum wave_kind kind;
    int64_t low, high;                  /* constant: low; square: both; sine: mean and amplitude */
    int64_t period_ns, high_ns, phase_ns;
    struct point *points;
    size_t point_count;
};

struct wave {                           /* the sum of its parts */
    struct part *parts;
    size_t count;
};

struct span { int64_t from_ns, to_ns; };
struct spans { struct span *items; size_t count; };

enum process_kind { KIND_COMPUTE, KIND_GRAPHICS, KIND_MPS };

struct process {
    int64_t pid, kind, memory_bytes, gpu_instance, compute_instance, accounting;
    struct spans present;               /* none: always */
    struct wave sm, mem, enc, dec;      /* percent */
    bool by_chance;                     /* sm is 100 in samples whose draw falls in [low_ppm, high_ppm), else 0 */
    int64_t salt, low_ppm, high_ppm;
};

struct instance {
    char uuid[TEXT_SIZE], name[TEXT_SIZE];
    int64_t gpu_instance, compute_instance, gpu_slices, compute_slices, multiprocessors;
    int64_t memory_total_bytes, memory_used_bytes;
    struct spans present;
    nvmlDevice_t slot;
};

struct counter_event { int64_t at_ns, add_mj; bool reset; };
struct counter_fall { int64_t from_ns, to_ns, level_mj; };
struct junk { int64_t pid, sm, age_ns, every; };

struct device {
    char uuid[TEXT_SIZE], name[TEXT_SIZE], pci[TEXT_SIZE], serial[TEXT_SIZE];
    int64_t minor, architecture, brand, cuda_major, cuda_minor, persistence, pstate, seed;
    int64_t limit_mw, limit_max_mw, temperature_c;
    int64_t memory_total_bytes, memory_used_bytes, memory_reserved_bytes;
    struct spans absent, lost;
    struct wave power, utilization, memory_utilization;
    int64_t power_window_ns, power_update_ns, instant;
    int64_t counter, counter_update_ns, counter_offset_mj;
    struct counter_event *events;
    size_t event_count;
    struct counter_fall *falls;
    size_t fall_count;
    struct spans freezes;
    int64_t samples_period_ns, samples_depth, samples_window_ns;
    int64_t use_period_ns, use_depth, use_empty_success, use_summary;
    struct junk *junk;
    size_t junk_count;
    int64_t accounting, gpm;
    int64_t mig, mig_pending, mig_max, mig_repeats_parent;
    struct process *processes;
    size_t process_count;
    struct instance *instances;
    size_t instance_count;
    nvmlDevice_t slot;
};

struct fault {
    char function[TEXT_SIZE], target[TEXT_SIZE];    /* target "*": any device, or none */
    int64_t from_ns, to_ns, skip_calls, max_calls, seen;
    bool hang;
    int64_t delay_ns, code;
};

struct world {
    char driver[TEXT_SIZE], nvml[TEXT_SIZE], clock_file[4096];
    int64_t cuda, epoch_ns, timestamp_offset_ns, enumerate_at_init;
    struct device *devices;
    size_t device_count;
    struct fault *faults;
    size_t fault_count;
};

/* waveform.c */
wide floor_div(wide a, wide b);         /* b > 0 */
int64_t wave_at(const struct wave *wave, int64_t t_ns);
wide wave_integral(const struct wave *wave, int64_t from_ns, int64_t to_ns);     /* level x ns */
int64_t wave_mean(const struct wave *wave, int64_t from_ns, int64_t to_ns);

/* keys.c: the scenario's plain KEY VALUE lines */
enum scope { IN_WORLD, IN_DEVICE, IN_PROCESS, IN_INSTANCE };
enum key_type { INTEGER, TEXT, WAVE, SPANS };
struct key { enum scope scope; const char *word; enum key_type type; size_t offset; };
const struct key *key_named(enum scope scope, const char *word);

/* parse.c: NULL on a bad file, with FILE:LINE and the reason on stderr */
struct world *world_read(const char *path);

/* world.c */
void *grow(void *array, size_t *count, size_t size);    /* one more zeroed item at the end of an array */
void world_free(struct world *world);

/* gate.c: a call in progress holds the lock from a successful enter_... until leave() */
struct call {
    struct world *world;
    struct device *device;
    struct instance *instance;          /* NULL on a whole GPU */
    int64_t t_ns;
};
nvmlReturn_t enter_system(struct call *call, const char *function);
nvmlReturn_t enter_device(struct call *call, const char *function, nvmlDevice_t handle);
nvmlReturn_t leave(nvmlReturn_t code);
nvmlReturn_t driver_open(const char *function);
nvmlReturn_t driver_close(void);
size_t enumerated(struct call *call);
nvmlReturn_t handle_at(struct call *call, size_t index, nvmlDevice_t *handle);
nvmlDevice_t handle_of(const struct call *call, const char *uuid);
bool within(const struct spans *spans, int64_t t_ns);
bool is_there(const struct spans *present, int64_t t_ns);      /* as within, but no span at all means always */
bool device_gone(const struct device *device, int64_t t_ns);
uint64_t timestamp_us(const struct call *call, int64_t t_ns);     /* 0 for what lies before the clock's zero */

/* faults.c */
struct verdict { bool hang; int64_t delay_ns; nvmlReturn_t code; };
struct verdict judge(struct world *world, const char *function, const char *uuid, int64_t t_ns);
nvmlReturn_t field_fault(const struct call *call, unsigned field);

#define SYSTEM_CALL()                                              \
    struct call call;                                              \
    do {                                                           \
        nvmlReturn_t entered = enter_system(&call, __func__);      \
        if (entered != NVML_SUCCESS) return entered;               \
    } while (0)
#define DEVICE_CALL(handle)                                        \
    struct call call;                                              \
    do {                                                           \
        nvmlReturn_t entered = enter_device(&call, __func__, handle); \
        if (entered != NVML_SUCCESS) return entered;               \
    } while (0)
/* What the driver gives for a whole GPU only. */
#define WHOLE_GPU_CALL(handle)                                     \
    DEVICE_CALL(handle);                                           \
    if (call.instance != NULL) return leave(NVML_ERROR_NOT_SUPPORTED)

nvmlReturn_t put_text(char *to, unsigned size, const char *text);
uint64_t instance_memory_used(const struct call *call, const struct instance *instance);
uint64_t device_memory_used(const struct call *call);
double process_sm_percent(const struct process *process, int64_t from_ns, int64_t to_ns);
const struct device *device_of(nvmlDevice_t handle);                /* NULL where it is in no world any more */
uint64_t counter_mj(const struct device *device, int64_t t_ns);

#endif
