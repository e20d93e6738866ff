/*
 * readrate.c - how fast this machine reads memory: the bound of generation
 *
 *   readrate [THREADS] [MEBIBYTES]
 *
 * Prints GB per second, the best of ten sweeps, each thread over its own block.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { MOST = 64, SWEEPS = 10 };

static size_t words; // of each thread
static pthread_barrier_t gate;
static double best = 1e9;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *sweep(void *arg)
{
    uint64_t *block = malloc(words * sizeof *block);
    volatile uint64_t sink = 0;

    if (block == NULL)
        exit(1);
    for (size_t i = 0; i < words; i++)
        block[i] = i;
    for (int k = 0; k < SWEEPS; k++) {
        pthread_barrier_wait(&gate);
        const double begin = now();
        uint64_t sum[8] = { 0 };
        for (size_t i = 0; i + 8 <= words; i += 8)
            for (size_t j = 0; j < 8; j++)
                sum[j] ^= block[i + j];
        sink = sum[0] ^ sum[1] ^ sum[2] ^ sum[3] ^ sum[4] ^ sum[5] ^ sum[6] ^ sum[7];
        pthread_barrier_wait(&gate);
        const double taken = now() - begin;
        if (arg == NULL && taken < best)
            best = taken;
    }
    (void)sink;
    free(block);
    return NULL;
}

int main(int argc, char **argv)
{
    const long n = argc > 1 ? strtol(argv[1], NULL, 10) : 1;
    const long mib = argc > 2 ? strtol(argv[2], NULL, 10) : 256;
    pthread_t other[MOST];

    if (n < 1 || n > MOST || mib < 1)
        return 2;
    words = (size_t)mib << 17;
    pthread_barrier_init(&gate, NULL, (unsigned)n);
    for (long i = 1; i < n; i++)
        if (pthread_create(&other[i], NULL, sweep, &best) != 0)
            return 1;
    sweep(NULL);
    for (long i = 1; i < n; i++)
        pthread_join(other[i], NULL);
    printf("%.2f\n", (double)n * (double)words * 8 / best / 1e9);
    return 0;
}
