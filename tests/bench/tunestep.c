/*
 * tunestep.c - steps of training, timed
 *
 *   tunestep MODEL full|lora|forward ROWS STEPS THREADS [all|small|input]
 *
 * Random tokens in one document of ROWS. full trains every part with AdamW; lora trains
 * factors of rank 16 over every linear of the layers. Prints one JSON object: seconds
 * of the median step after the first by the clock and by processor time, its products,
 * the rate of large products by processor time, peak memory, the plan's bytes.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/os.h"
#include "model/train_step.h"
#include "train/optim.h"

enum { RANK = 16, MAX_STEPS = 100 };

struct bench {
    ws_model *m;
    size_t parts, n_slots;
    ws_want *want;
    ws_overlay *over;
    ws_slot_f32 *slot;
    uint64_t beside;
};

static void need(ws_status st, const ws_err *err)
{
    if (st == WS_OK)
        return;
    fprintf(stderr, "tunestep: %s\n", err->msg);
    exit(1);
}

static float *floats(struct bench *b, int64_t n)
{
    float *p = ws_calloc((size_t)n, sizeof *p);
    if (p == NULL)
        exit(1);
    b->beside += (uint64_t)n * sizeof *p;
    return p;
}

/** A slot for @p n numbers at @p p (NULL: new ones); returns its gradient. */
static float *slot_add(struct bench *b, const char *name, float *p, int64_t n)
{
    ws_slot_f32 *s = &b->slot[b->n_slots++];
    *s = (ws_slot_f32){ .name = name, .n = (size_t)n, .p = p ? p : floats(b, n) };
    s->g = floats(b, n);
    s->m = floats(b, n);
    s->v = floats(b, n);
    for (int64_t i = 0; p == NULL && i < n; i++)
        s->p[i] = (float)(rand() % 2001 - 1000) * 1e-5f;
    return s->g;
}

static void full(struct bench *b)
{
    ws_err err = WS_ERR_INIT;
    for (size_t i = 0; i < b->parts; i++) {
        float *p;
        need(ws_model_master(b->m, i, &p, &err), &err);
        const ws_model_part *part = ws_model_part_at(b->m, i);
        b->want[i].grad = slot_add(b, part->name, p, part->n);
    }
}

static void lora(struct bench *b)
{
    static float gain[RANK];
    for (int r = 0; r < RANK; r++)
        gain[r] = 2.0f;
    for (size_t i = 0; i < b->parts; i++) {
        const ws_model_part *p = ws_model_part_at(b->m, i);
        const int64_t in = p->transposed ? p->rows : p->cols;
        const int64_t out = p->transposed ? p->cols : p->rows;
        if (p->kind != WS_PART_LINEAR)
            continue;
        ws_overlay *o = &b->over[i];
        o->rank = RANK;
        o->gain = gain;
        o->dA = slot_add(b, p->name, NULL, RANK * in);
        o->A = b->slot[b->n_slots - 1].p;
        o->dB = slot_add(b, p->name, NULL, out * RANK);
        o->B = b->slot[b->n_slots - 1].p;
        b->want[i].over = o;
    }
}

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/** The median of @p n seconds but the first, which warms up; sorts them. */
static double median_step(double *seconds, int n)
{
    if (n == 1)
        return seconds[0];
    qsort(++seconds, (size_t)--n, sizeof *seconds, by_size);
    return (seconds[(n - 1) / 2] + seconds[n / 2]) / 2;
}

static void one_step(ws_step *s, ws_optim *o, int64_t number,
                     const ws_step_batch *batch, double *loss)
{
    ws_err err = WS_ERR_INIT;
    ws_step_result r;
    int64_t bad;

    if (o == NULL) {
        need(ws_step_score(s, batch, NULL, &r, &err), &err);
        *loss = r.loss / r.weight;
        return;
    }
    ws_optim_clear(o);
    need(ws_step_run(s, batch, 1.0 / (double)batch->rows, NULL, &r, &err), &err);
    const float clip = ws_optim_clip(ws_optim_norm(o, &bad), 1.0);
    ws_optim_step(o, number, 1e-5, clip);
    *loss = r.loss / r.weight;
}

/** GFLOP per second of processor time of a product (512, 3072) x (3072, 3072). */
static double gemm_rate(void)
{
    enum { N = 512, K = 3072 };
    float *p = ws_calloc((size_t)(2 * N + K) * K, sizeof *p);
    if (p == NULL)
        return 0;
    const ws_mat X = ws_mat_f32(p, N, K), W = ws_mat_f32(p + N * K, K, K);
    ws_mat Y = ws_mat_f32(p + N * K + (size_t)K * K, N, K);
    double best = 1e30;
    for (int i = 0; i < 5; i++) {
        const double c = cpu_seconds();
        if (ws_gemm(false, true, 1.0, &X, &W, 0.0, &Y, NULL) != WS_OK)
            break;
        best = cpu_seconds() - c < best ? cpu_seconds() - c : best;
    }
    ws_free(p);
    return 2.0 * N * K * K / best * 1e-9;
}

static void report(const char *what, int64_t rows, int steps, double wall, double cpu,
                   double loss, const ws_step_memory *m, uint64_t beside)
{
    printf(
        "{\"what\": \"%s\", \"rows\": %lld, \"steps\": %d, \"seconds\": %.4f, "
        "\"cpu_seconds\": %.4f, \"loss\": %.6f, \"gflop\": %.1f, \"gemm_rate\": %.1f, "
        "\"peak_bytes\": %llu, \"plan_bytes\": %llu, \"kept_bytes\": %llu}\n",
        what, (long long)rows, steps, wall, cpu, loss, m->flops * 1e-9, gemm_rate(),
        (unsigned long long)ws_os_memory_peak(),
        (unsigned long long)(m->total + m->weights + beside),
        (unsigned long long)m->kept);
}

int main(int argc, char **argv)
{
    if (argc < 6 || strtol(argv[4], NULL, 10) < 1 ||
        strtol(argv[4], NULL, 10) > MAX_STEPS)
        return 2;
    const char *keeps[] = { "auto", "all", "small", "input" };
    const ws_ctx ctx = { .threads = (int)strtol(argv[5], NULL, 10),
                         .max_memory = 1ull << 40 };
    const bool trains = strcmp(argv[2], "forward") != 0;
    const int steps = (int)strtol(argv[4], NULL, 10);
    ws_step_opts o = { .rows = (int)strtol(argv[3], NULL, 10),
                       .forward_only = !trains };
    struct bench b = { 0 };
    ws_err err = WS_ERR_INIT;
    ws_step *s = NULL;
    ws_optim *optim = NULL;

    for (int k = 0; argc > 6 && k < 4; k++)
        if (strcmp(argv[6], keeps[k]) == 0)
            o.keep = (ws_keep)k;
    need(ws_model_open(&b.m, argv[1], NULL, &ctx, &err), &err);
    b.parts = ws_model_part_count(b.m);
    b.want = ws_calloc(b.parts, sizeof *b.want);
    b.over = ws_calloc(b.parts, sizeof *b.over);
    b.slot = ws_calloc(2 * b.parts, sizeof *b.slot);
    if (strcmp(argv[2], "full") == 0)
        full(&b);
    else if (trains)
        lora(&b);
    need(ws_step_new(&s, b.m, b.want, &o, NULL, &ctx, &err), &err);
    const ws_optim_opts adam = { .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .clip = 1 };
    if (trains)
        need(ws_optim_new(&optim, &adam, b.slot, b.n_slots, ws_step_pool(s), &err),
             &err);
    int32_t *ids = ws_calloc((size_t)o.rows + 1, sizeof *ids);
    for (int64_t i = 0; i <= o.rows; i++)
        ids[i] = (int32_t)(rand() % ws_model_info_of(b.m)->vocab);
    const ws_step_batch batch = { .rows = o.rows, .tokens = ids, .targets = ids + 1 };
    double wall[MAX_STEPS], cpu[MAX_STEPS], loss = 0;
    for (int i = 0; i < steps; i++) {
        const double w = ws_os_now(), c = cpu_seconds();
        one_step(s, optim, i + 1, &batch, &loss);
        wall[i] = ws_os_now() - w;
        cpu[i] = cpu_seconds() - c;
    }
    report(argv[2], o.rows, steps, median_step(wall, steps), median_step(cpu, steps),
           loss, ws_step_memory_of(s), b.beside);
    ws_optim_free(optim);
    ws_step_free(s);
    ws_model_free(b.m);
    for (size_t i = 0; i < b.n_slots; i++) {
        ws_free(b.slot[i].g);
        ws_free(b.slot[i].m);
        ws_free(b.slot[i].v);
        if (!b.want || strcmp(argv[2], "full") != 0)
            ws_free(b.slot[i].p);
    }
    ws_free(b.want);
    ws_free(b.over);
    ws_free(b.slot);
    ws_free(ids);
    return 0;
}
