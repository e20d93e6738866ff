/*
 * split.c - times the decomposition of one layer
 *
 *     split W C ROWS COLS RANK ipm|kpm|svd exact|fast COPIES THREADS OUT
 *
 * W (ROWS, COLS) and C (COLS, COLS) are raw floats. COPIES layers are decomposed by
 * THREADS threads; prints wall and processor seconds per layer, and what was reported.
 * OUT: B (ROWS, RANK), then A (RANK, COLS), raw doubles. With svd W alone is truncated.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/pool.h"
#include "surgery/corda.h"

struct bench {
    ws_mat W, C;
    int64_t m, n, r;
    bool svd;
    ws_corda_opts o;
    ws_decomposed out;
    ws_truncated_info cut;
    double *B, *A;
};

static float *load(const char *path, size_t n)
{
    float *x = malloc(n * sizeof *x);
    FILE *f = fopen(path, "rb");
    if (x == NULL || f == NULL || fread(x, sizeof *x, n, f) != n) {
        fprintf(stderr, "split: cannot read %s\n", path);
        exit(5);
    }
    fclose(f);
    return x;
}

static void fail(const ws_err *err)
{
    fprintf(stderr, "split: %s\n", err->msg);
    exit(6);
}

/** As a run does it: from the stored floats to the factors. */
static void corda(struct bench *b, bool keep)
{
    ws_err err = WS_ERR_INIT;
    ws_mat W = ws_mat_f64(malloc((size_t)(b->m * b->n) * 8), b->m, b->n);
    ws_mat C = ws_mat_f64(malloc((size_t)(b->n * b->n) * 8), b->n, b->n);
    ws_mat B = ws_mat_f64(malloc((size_t)(b->m * b->r) * 8), b->m, b->r);
    ws_mat A = ws_mat_f64(malloc((size_t)(b->r * b->n) * 8), b->r, b->n);
    for (int64_t i = 0; i < b->m * b->n; i++)
        ((double *)W.data)[i] = ((const float *)b->W.data)[i];
    for (int64_t i = 0; i < b->n * b->n; i++)
        ((double *)C.data)[i] = ((const float *)b->C.data)[i];
    ws_corda_damp(&C, 0.01);
    ws_decomposed out;
    if (ws_corda(&W, &C, &b->o, &B, &A, &out, &err))
        fail(&err);
    free(W.data);
    free(C.data);
    if (keep) {
        b->out = out;
        b->B = B.data;
        b->A = A.data;
    } else {
        free(B.data);
        free(A.data);
    }
}

static void truncated(struct bench *b, bool keep)
{
    ws_err err = WS_ERR_INIT;
    ws_arena tmp = { 0 };
    double *s = malloc((size_t)b->r * sizeof *s);
    ws_mat U = ws_mat_f32(malloc((size_t)(b->m * b->r) * 4), b->m, b->r);
    ws_mat Vt = ws_mat_f32(malloc((size_t)(b->r * b->n) * 4), b->r, b->n);
    const ws_truncated_opts o = { .rank = b->r, .slack = 0.01 };
    ws_truncated_info cut;
    if (ws_svd_truncated(&b->W, &o, &U, s, &Vt, &tmp, &cut, &err))
        fail(&err);
    if (keep)
        b->cut = cut;
    ws_arena_free(&tmp);
    free(s);
    free(U.data);
    free(Vt.data);
}

static void one(void *arg, size_t i, int thread)
{
    struct bench *b = arg;
    (void)thread;
    if (b->svd)
        truncated(b, i == 0);
    else
        corda(b, i == 0);
}

static double seconds(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int main(int argc, char **argv)
{
    if (argc != 11) {
        fprintf(stderr, "usage: split W C ROWS COLS RANK ipm|kpm|svd exact|fast COPIES "
                        "THREADS OUT\n");
        return 2;
    }
    struct bench b = { .m = strtol(argv[3], NULL, 10),
                       .n = strtol(argv[4], NULL, 10),
                       .r = strtol(argv[5], NULL, 10) };
    const size_t copies = strtoul(argv[8], NULL, 10);
    b.svd = strcmp(argv[6], "svd") == 0;
    b.o = (ws_corda_opts){ .rank = b.r,
                           .smallest = strcmp(argv[6], "kpm") == 0,
                           .solver = strcmp(argv[7], "fast") == 0 ? WS_SOLVER_FAST
                                                                  : WS_SOLVER_EXACT };
    b.W = ws_mat_f32(load(argv[1], (size_t)(b.m * b.n)), b.m, b.n);
    if (!b.svd)
        b.C = ws_mat_f32(load(argv[2], (size_t)(b.n * b.n)), b.n, b.n);
    ws_pool *pool;
    ws_err err = WS_ERR_INIT;
    if (ws_pool_new(&pool, (int)strtol(argv[9], NULL, 10), &err))
        fail(&err);
    const double wall = seconds(CLOCK_MONOTONIC),
                 cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
    ws_pool_for(pool, copies, one, &b);
    const double n = (double)copies;
    printf("{\"wall\": %.4f, \"cpu\": %.4f, ", (seconds(CLOCK_MONOTONIC) - wall) / n,
           (seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu) / n);
    if (b.svd)
        printf("\"residual\": %.9g, \"least\": %.9g, \"step\": %d}\n", b.cut.residual,
               b.cut.least, (int)b.cut.step);
    else
        printf("\"by\": \"%s\", \"gap\": %.3g, \"separation\": %.3g, \"over_best\": "
               "%.3g}\n",
               b.out.by, b.out.gap, b.out.separation, b.out.over_best);
    ws_pool_free(pool);
    FILE *f = b.svd ? NULL : fopen(argv[10], "wb");
    if (f != NULL) {
        fwrite(b.B, 8, (size_t)(b.m * b.r), f);
        fwrite(b.A, 8, (size_t)(b.r * b.n), f);
        fclose(f);
    }
    return 0;
}
