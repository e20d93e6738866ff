/*
 * kernel_gram.c - products between the vectors of a job, and the sum of lanes
 */
#include "wsurg/method.h"

size_t ws_gram_pairs(size_t n_vectors)
{
    return n_vectors * (n_vectors + 1) / 2;
}

size_t ws_gram_at(size_t i, size_t j)
{
    return j * (j + 1) / 2 + i;
}

size_t ws_gram_state_size(const ws_job *job)
{
    return ws_gram_pairs(job->n_models) * sizeof(double);
}

size_t ws_gram_partial_size(const ws_job *job)
{
    return ws_gram_pairs(job->n_models) * sizeof(ws_lanes);
}

bool ws_gram_begin(const ws_job *job, int pass, void *state)
{
    (void)job;
    (void)state;
    return pass == 0;
}

void ws_gram_join(const ws_job *job, int pass, void *state, const void *partial,
                  uint64_t slice)
{
    const ws_lanes *lanes = partial;
    double *products = state;
    (void)pass;
    (void)slice;
    for (size_t p = 0; p < ws_gram_pairs(job->n_models); p++)
        products[p] += ws_lanes_sum(&lanes[p]);
}

double ws_lanes_sum(const ws_lanes *acc)
{
    enum { LANES = sizeof acc->lane / sizeof acc->lane[0] };
    double s[LANES];
    memcpy(s, acc->lane, sizeof s);
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int j = 0; j < half; j++)
            s[j] += s[j + half];
    return s[0];
}
