/*
 * schedule.c - the learning rate over the steps, as transformers has it
 *
 *   s step = 0, 1, ...   w warm-up   S steps in all   q = (s - w) / max(1, S - w)
 *
 *   warm-up               s / max(1, w)                 for s < w, then
 *   constant              1 (no warm-up at all); constant_with_warmup likewise
 *   linear                max(0, (S - s) / max(1, S - w))
 *   cosine                max(0, (1 + cos(2 pi c q)) / 2), c = 1/2
 *   cosine_with_restarts  max(0, (1 + cos(pi (c q mod 1))) / 2), 0 from q = 1; c = 1
 *   cosine_with_min_lr    the cosine's f (1 - r) + r, r = min_lr / lr
 *   polynomial            1e-7 / lr + (1 - 1e-7 / lr) (1 - q)^power
 *   inverse_sqrt          1 / sqrt((s + t - w) / t), t = w, or 10000 without warm-up
 *   warmup_stable_decay   1, and over the last `decay` steps the cosine down to r
 */
#include "train/schedule.h"

#include <math.h>

static const double pi = 3.14159265358979323846;
static const double poly_end = 1e-7;

static double positive(double x)
{
    return x > 0.0 ? x : 0.0;
}

static double at_least_one(int64_t n)
{
    return n > 1 ? (double)n : 1.0;
}

static double polynomial(const ws_schedule *s, int64_t step)
{
    const double end = poly_end / s->lr;
    if (step > s->steps)
        return end;
    const double q = (double)(step - s->warmup) / at_least_one(s->steps - s->warmup);
    return (1.0 - end) * pow(1.0 - q, s->power) + end;
}

static double stable_decay(const ws_schedule *s, int64_t step)
{
    const int64_t from = s->steps - s->decay;
    if (step < from)
        return 1.0;
    if (step >= s->steps)
        return s->min_rate;
    const double q = (double)(step - from) / at_least_one(s->decay);
    return positive(0.5 * (1.0 + cos(pi * q)) * (1.0 - s->min_rate) + s->min_rate);
}

double ws_schedule_factor(const ws_schedule *s, int64_t step)
{
    if (s->kind == WS_SCHEDULE_CONSTANT)
        return 1.0;
    if (step < s->warmup) {
        const double up = (double)step / at_least_one(s->warmup);
        return s->kind == WS_SCHEDULE_STABLE_DECAY
                   ? up * (1.0 - s->min_rate) + s->min_rate
                   : up;
    }
    const double q = (double)(step - s->warmup) / at_least_one(s->steps - s->warmup);
    const double cosine = 0.5 * (1.0 + cos(pi * q));
    const double shift = s->warmup > 0 ? (double)s->warmup : 10000.0;

    switch (s->kind) {
    case WS_SCHEDULE_LINEAR:
        return positive((double)(s->steps - step) / at_least_one(s->steps - s->warmup));
    case WS_SCHEDULE_COSINE:
        return positive(cosine);
    case WS_SCHEDULE_COSINE_RESTARTS:
        return q >= 1.0 ? 0.0 : positive(0.5 * (1.0 + cos(pi * fmod(q, 1.0))));
    case WS_SCHEDULE_COSINE_MIN:
        return positive(cosine * (1.0 - s->min_rate) + s->min_rate);
    case WS_SCHEDULE_POLYNOMIAL:
        return polynomial(s, step);
    case WS_SCHEDULE_INVERSE_SQRT:
        return 1.0 / sqrt(((double)(step - s->warmup) + shift) / shift);
    case WS_SCHEDULE_STABLE_DECAY:
        return stable_decay(s, step);
    case WS_SCHEDULE_CONSTANT:
    case WS_SCHEDULE_CONSTANT_WARMUP:
        break;
    }
    return 1.0;
}
