/*
 * learnstep.c - steps of learn, timed
 *
 *   learnstep BASE MODEL... -- ROWS LENGTH STEPS THREADS MEBIBYTES
 *
 * ROWS rows of LENGTH random tokens in each step; MEBIBYTES is the memory limit. Prints
 * one JSON object: seconds of the best step by the clock and by processor time, peak
 * memory of the process.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/os.h"
#include "wsurg/atlas.h"
#include "wsurg/ctx.h"

struct times {
    double wall, cpu, best_wall, best_cpu, loss;
    int64_t steps;
};

static double cpu_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/** From one step's end to the next one's; the first follows the scores. */
static void note(void *arg, const ws_atlas_step *s)
{
    struct times *t = arg;
    const double wall = ws_os_now(), cpu = cpu_now();
    if (!s->val && s->step > 1) {
        t->best_wall = wall - t->wall < t->best_wall ? wall - t->wall : t->best_wall;
        t->best_cpu = cpu - t->cpu < t->best_cpu ? cpu - t->cpu : t->best_cpu;
    }
    if (!s->val) {
        t->loss = s->loss;
        t->steps = s->step;
    }
    t->wall = wall;
    t->cpu = cpu;
}

/** Random token ids in a file of 16-bit numbers. */
static void tokens_write(const char *path, long n)
{
    FILE *f = fopen(path, "wb");
    uint32_t x = 1;
    for (long i = 0; f != NULL && i < n; i++) {
        x = x * 1664525u + 1013904223u;
        const uint16_t id = (uint16_t)(x >> 16) % 400;
        fwrite(&id, sizeof id, 1, f);
    }
    if (f == NULL || fclose(f) != 0)
        exit(1);
}

static long number(const char *text)
{
    return strtol(text, NULL, 10);
}

int main(int argc, char **argv)
{
    static const struct ws_atlas_req usual = WS_ATLAS_REQ_INIT;
    ws_atlas_req req = usual;
    ws_atlas_result r;
    ws_ctx ctx = WS_CTX_INIT;
    ws_err err = WS_ERR_INIT;
    struct times t = { .best_wall = 1e30, .best_cpu = 1e30 };
    struct rusage usage;
    char data[64], spec[80], out[64];
    int n = 1;
    while (n < argc && strcmp(argv[n], "--") != 0)
        n++;
    if (n < 3 || argc != n + 6)
        return fprintf(stderr, "usage: see learnstep.c\n"), 2;
    const long rows = number(argv[n + 1]), length = number(argv[n + 2]);
    snprintf(data, sizeof data, "/tmp/learnstep-%ld.bin", (long)getpid());
    snprintf(out, sizeof out, "/tmp/learnstep-%ld.json", (long)getpid());
    snprintf(spec, sizeof spec, "random=%s", data);
    req.steps = number(argv[n + 3]);
    ctx.threads = (int)number(argv[n + 4]);
    ctx.max_memory = (uint64_t)number(argv[n + 5]) << 20;
    tokens_write(data, rows * length * 4);
    const char *one = spec;
    req.base = argv[1];
    req.models = (const char *const *)argv + 2;
    req.n_models = (size_t)n - 2;
    req.data = &one;
    req.n_data = 1;
    req.batch = rows;
    req.seq = length;
    req.lr = 1e-2;
    req.eval_every = req.steps;
    req.val_tokens = length;
    req.out = out;
    req.step = note;
    req.arg = &t;
    const ws_status st = ws_atlas_learn(&r, &req, &ctx, &err);
    unlink(data);
    unlink(out);
    if (st != WS_OK)
        return fprintf(stderr, "learnstep: %s\n", err.msg), 1;
    getrusage(RUSAGE_SELF, &usage);
    printf("{\"what\": \"wsurg\", \"steps\": %lld, \"seconds\": %.4f, "
           "\"cpu_seconds\": %.4f, \"loss\": %.6f, \"resident\": %llu, "
           "\"peak_bytes\": %lld}\n",
           (long long)t.steps, t.best_wall, t.best_cpu, t.loss,
           (unsigned long long)r.resident, (long long)usage.ru_maxrss * 1024);
    ws_atlas_result_free(&r);
    return 0;
}
