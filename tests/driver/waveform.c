/* Waveforms of time, and their integrals in closed form: integers throughout, but for the sine. */
#include "double.h"

#include <math.h>

wide floor_div(wide a, wide b)
{
    wide quotient = a / b;
    return a % b < 0 ? quotient - 1 : quotient;
}

static int64_t into_period(int64_t t_ns, const struct part *part)
{
    wide u = (wide)t_ns - part->phase_ns;
    return (int64_t)(u - floor_div(u, part->period_ns) * part->period_ns);
}

static double angle(const struct part *part, int64_t t_ns)
{
    return 2.0 * M_PI * (double)into_period(t_ns, part) / (double)part->period_ns;
}

static int64_t points_at(const struct part *part, int64_t t_ns)
{
    const struct point *points = part->points;
    size_t last = part->point_count - 1, i = 0;
    while (i < last && points[i + 1].at_ns <= t_ns)
        i++;
    if (t_ns < points[i].at_ns || i == last || !points[i].ramp)
        return points[i].level;
    wide rise = points[i + 1].level - points[i].level;
    return points[i].level
        + (int64_t)floor_div(rise * (t_ns - points[i].at_ns), points[i + 1].at_ns - points[i].at_ns);
}

/* From the first point to t_ns; negative before it. */
static wide points_area(const struct part *part, int64_t t_ns)
{
    const struct point *points = part->points;
    if (t_ns <= points[0].at_ns)
        return (wide)points[0].level * (t_ns - points[0].at_ns);
    wide area = 0;
    for (size_t i = 0; i < part->point_count && points[i].at_ns < t_ns; i++) {
        bool last = i + 1 == part->point_count;
        int64_t end = last || t_ns < points[i + 1].at_ns ? t_ns : points[i + 1].at_ns;
        wide length = end - points[i].at_ns;
        area += points[i].level * length;
        if (points[i].ramp && !last) {
            wide rise = points[i + 1].level - points[i].level;
            area += floor_div(rise * length * length, 2 * (wide)(points[i + 1].at_ns - points[i].at_ns));
        }
    }
    return area;
}

static wide square_area(const struct part *part, int64_t t_ns)
{
    wide cycles = floor_div((wide)t_ns - part->phase_ns, part->period_ns);
    wide rest = into_period(t_ns, part);
    wide high_ns = rest < part->high_ns ? rest : part->high_ns;
    wide cycle = (wide)part->high * part->high_ns + (wide)part->low * (part->period_ns - part->high_ns);
    return cycles * cycle + part->high * high_ns + part->low * (rest - high_ns);
}

static wide sine_area(const struct part *part, int64_t t_ns)
{
    double swing = (double)part->high * (double)part->period_ns / (2.0 * M_PI) * (1.0 - cos(angle(part, t_ns)));
    return (wide)part->low * t_ns + (wide)floor(swing + 0.5);
}

static wide area(const struct part *part, int64_t t_ns)
{
    switch (part->kind) {
    case WAVE_SQUARE: return square_area(part, t_ns);
    case WAVE_SINE: return sine_area(part, t_ns);
    case WAVE_POINTS: return points_area(part, t_ns);
    default: return (wide)part->low * t_ns;
    }
}

int64_t wave_at(const struct wave *wave, int64_t t_ns)
{
    int64_t level = 0;
    for (size_t i = 0; i < wave->count; i++) {
        const struct part *part = &wave->parts[i];
        switch (part->kind) {
        case WAVE_SQUARE: level += into_period(t_ns, part) < part->high_ns ? part->high : part->low; break;
        case WAVE_SINE:
            level += part->low + (int64_t)floor((double)part->high * sin(angle(part, t_ns)) + 0.5);
            break;
        case WAVE_POINTS: level += points_at(part, t_ns); break;
        default: level += part->low;
        }
    }
    return level;
}

wide wave_integral(const struct wave *wave, int64_t from_ns, int64_t to_ns)
{
    wide sum = 0;
    for (size_t i = 0; i < wave->count; i++)
        sum += area(&wave->parts[i], to_ns) - area(&wave->parts[i], from_ns);
    return sum;
}

int64_t wave_mean(const struct wave *wave, int64_t from_ns, int64_t to_ns)
{
    wide length = to_ns - from_ns;
    return (int64_t)floor_div(wave_integral(wave, from_ns, to_ns) + length / 2, length);
}
