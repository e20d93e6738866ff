/*
 * sample.c - the next token: penalty, temperature, cuts, and a keyed draw
 *
 *   p_i = exp((z_i - max) / T) over the candidates left; drawn by one uniform number of
 *   the stream (seed, "generate", text), counter = index of the token
 *
 * Where top_k or top_p cut, candidates leave a heap in falling order of their logits,
 * the lower id first among equals, as many as are needed.
 */
#include "model/sample.h"

#include <math.h>

#include "base/hash.h"
#include "wsurg/alloc.h"
#include "wsurg/random.h"

struct candidate {
    float z;
    int32_t id;
};

struct ws_sampler {
    const ws_generate_opts *o;
    int64_t V;
    struct candidate *heap; // (V)
    struct candidate *list; // (V) those left
    double *p;              // (V) of the list
};

ws_status ws_sampler_new(ws_sampler **out, int64_t V, const ws_generate_opts *o,
                         ws_err *err)
{
    const size_t n = o->temperature > 0.0 ? (size_t)V : 1;
    ws_sampler *s = ws_calloc(1, sizeof *s);

    if (s) {
        *s = (ws_sampler){ .o = o, .V = V };
        s->heap = ws_calloc(n, sizeof *s->heap);
        s->list = ws_calloc(n, sizeof *s->list);
        s->p = ws_calloc(n, sizeof *s->p);
    }
    if (!s || !s->heap || !s->list || !s->p) {
        ws_sampler_free(s);
        return ws_fail(err, WS_E_MEMORY, "no memory for the candidates");
    }
    *out = s;
    return WS_OK;
}

void ws_sampler_free(ws_sampler *s)
{
    if (!s)
        return;
    ws_free(s->heap);
    ws_free(s->list);
    ws_free(s->p);
    ws_free(s);
}

static bool before(struct candidate a, struct candidate b)
{
    return a.z > b.z || (a.z == b.z && a.id < b.id);
}

static void sift(struct candidate *heap, int64_t n, int64_t i)
{
    const struct candidate c = heap[i];

    for (int64_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && before(heap[child + 1], heap[child]))
            child++;
        if (!before(heap[child], c))
            break;
        heap[i] = heap[child];
    }
    heap[i] = c;
}

static double weight(const ws_sampler *s, float z, float max)
{
    return exp(((double)z - (double)max) / s->o->temperature);
}

/** All candidates in the order of their ids; how many. */
static int64_t all(ws_sampler *s, const float *z, float max)
{
    for (int64_t i = 0; i < s->V; i++) {
        s->list[i] = (struct candidate){ z[i], (int32_t)i };
        s->p[i] = weight(s, z[i], max);
    }
    return s->V;
}

/** The likeliest that top_k and top_p leave, in falling order; how many. */
static int64_t likeliest(ws_sampler *s, const float *z, float max)
{
    const ws_generate_opts *o = s->o;
    const int64_t most = o->top_k > 0 && o->top_k < s->V ? o->top_k : s->V;
    double sum = 0, reached = 0;
    int64_t left = s->V, n = 0, kept = 0;

    for (int64_t i = 0; i < s->V; i++) {
        s->heap[i] = (struct candidate){ z[i], (int32_t)i };
        if (most == s->V)
            sum += weight(s, z[i], max);
    }
    for (int64_t i = s->V / 2; i-- > 0;)
        sift(s->heap, left, i);
    // of top_k the sum is known when they are out, of all it is known at once
    while (n < most && (most < s->V || n == 0 || reached < o->top_p * sum)) {
        s->list[n] = s->heap[0];
        s->p[n] = weight(s, s->heap[0].z, max);
        reached += s->p[n++];
        s->heap[0] = s->heap[--left];
        if (left > 0)
            sift(s->heap, left, 0);
    }
    if (most == s->V)
        return n;
    sum = reached;
    reached = 0;
    while (kept < n && (kept == 0 || reached < o->top_p * sum))
        reached += s->p[kept++];
    return kept;
}

/** Leave out those below min_p times the likeliest. */
static int64_t cut_min(ws_sampler *s, int64_t n)
{
    int64_t kept = 0;

    for (int64_t i = 0; i < n; i++)
        if (s->p[i] >= s->o->min_p) { // the likeliest has weight 1
            s->list[kept] = s->list[i];
            s->p[kept++] = s->p[i];
        }
    return kept;
}

static int32_t draw(ws_sampler *s, const float *z, float max, uint64_t sample,
                    uint64_t index)
{
    const ws_generate_opts *o = s->o;
    const bool cut = (o->top_k > 0 && o->top_k < s->V) || o->top_p < 1.0;
    uint64_t key[2];
    uint32_t word[2];
    double sum = 0, at = 0;

    int64_t n = cut ? likeliest(s, z, max) : all(s, z, max);
    if (o->min_p > 0.0)
        n = cut_min(s, n);
    ws_rng_key_make(o->seed, "generate", sample, "", key);
    ws_random_fill(&(ws_rng_key){ key[0], key[1] }, 2 * index, word, 2);
    for (int64_t i = 0; i < n; i++)
        sum += s->p[i];
    // 53 bits in [0, 1)
    const double u =
        ((double)(word[0] >> 5) * 0x1p26 + (double)(word[1] >> 6)) * 0x1p-53 * sum;
    int64_t last = 0;
    for (int64_t i = 0; i < n; i++) {
        at += s->p[i];
        if (u < at)
            return s->list[i].id;
        if (s->p[i] > 0.0)
            last = i;
    }
    return s->list[last].id;
}

int32_t ws_sampler_next(ws_sampler *s, float *z, const bool *seen, uint64_t sample,
                        uint64_t index)
{
    const float f = (float)s->o->repetition_penalty;
    int32_t best = 0;

    for (int64_t i = 0; i < s->V; i++)
        if (!isfinite(z[i]))
            return -1;
    for (int64_t i = 0; f != 1.0f && i < s->V; i++)
        if (seen[i])
            z[i] = z[i] < 0.0f ? z[i] * f : z[i] / f;
    for (int32_t i = 1; i < s->V; i++)
        if (z[i] > z[best])
            best = i;
    return s->o->temperature > 0.0 ? draw(s, z, z[best], sample, index) : best;
}
