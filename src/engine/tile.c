/*
 * tile.c - one tile: sources to numbers, the method, numbers to bytes, and the sums
 */
#include "engine/tile.h"

#include <string.h>

#include "engine/sums.h"
#include "wsurg/alloc.h"

size_t ws_tile_elements(const ws_plan_tensor *pt, size_t tile)
{
    const ws_method *m = pt->job.method;
    const ws_unit unit = pt->action == WS_ACT_COPY || m->unit == NULL
                             ? WS_UNIT_ELEMENT
                             : m->unit(&pt->job);
    uint64_t n = tile;
    if (unit == WS_UNIT_TENSOR)
        n = pt->job.n;
    else if (unit == WS_UNIT_ROW)
        n = pt->job.row > tile ? pt->job.row : tile / pt->job.row * pt->job.row;
    if (n > pt->job.n)
        n = pt->job.n;
    return n == 0 ? 1 : (size_t)n;
}

bool ws_tile_next_run(ws_sample sample, uint64_t *first, uint64_t *n, uint64_t end)
{
    if (sample.period != 0) {
        const uint64_t at = *first % sample.period;
        if (at >= sample.span)
            *first += sample.period - at;
        const uint64_t left = sample.span - *first % sample.period;
        *n = *n < left ? *n : left;
    }
    if (*first >= end)
        return false;
    if (*n > end - *first)
        *n = end - *first;
    return true;
}

/** Bytes of the widest number among the sources and the output. */
static size_t widest(const ws_plan_tensor *pt)
{
    unsigned bits = ws_dtype_info(pt->t.dtype)->bits;
    if (pt->base != NULL && ws_dtype_info(pt->base->dtype)->bits > bits)
        bits = ws_dtype_info(pt->base->dtype)->bits;
    for (size_t k = 0; k < pt->job.n_models; k++) {
        const unsigned b = ws_dtype_info(pt->in[pt->model_of[k]]->dtype)->bits;
        bits = b > bits ? b : bits;
    }
    return (bits + 7) / 8;
}

bool ws_tile_layout_make(const ws_plan *plan, const ws_plan_tensor *pt, size_t tile,
                         ws_tile_layout *out)
{
    enum { CHUNK = 16 }; // tiles
    ws_tile_layout l = { 0 };
    l.real = pt->f64 ? 8 : 4;
    l.tile = ws_tile_elements(pt, tile);
    l.chunk = l.tile >= CHUNK * tile ? l.tile : CHUNK * tile / l.tile * l.tile;
    if (l.chunk > pt->job.n)
        l.chunk = pt->job.n == 0 ? 1 : (size_t)pt->job.n;
    l.n_sources = plan->n_inputs;
    const int tmp = pt->job.method->n_tmp;
    l.n_tmp = tmp >= 0 ? (size_t)tmp : (size_t)-tmp * pt->job.n_models;
    size_t reals, all, raws, raw_unit;
    // arrays begin on cache lines
    if (!ws_mul_size(l.chunk, widest(pt), &raw_unit) ||
        !ws_add_size(raw_unit, 64, &raw_unit))
        return false;
    l.raw_bytes = raw_unit & ~(size_t)63;
    size_t real_unit = ((l.tile * l.real) + 63) & ~(size_t)63;
    if (!ws_mul_size(real_unit, l.n_sources + l.n_tmp + 2, &reals) ||
        !ws_mul_size(l.raw_bytes, l.n_sources + WS_CHUNKS_READY, &raws) ||
        !ws_add_size(reals, raws, &all))
        return false;
    l.total = all;
    *out = l;
    return true;
}

ws_status ws_scratch_init(ws_scratch *s, const ws_plan *plan, size_t block,
                          size_t carry, ws_err *err)
{
    const size_t n_in = plan->n_inputs, n_models = plan->n_models;
    *s = (ws_scratch){ .size = block, .carry_size = carry };
    s->block = ws_alloc(block);
    s->hash = ws_calloc(n_in + 1, sizeof *s->hash);
    s->lanes = ws_calloc(ws_sums_count(n_models), sizeof *s->lanes);
    s->tally = ws_calloc(n_models + 1, sizeof *s->tally);
    s->carry = ws_calloc(1, carry + 1);
    s->in = ws_calloc(n_in + 1, sizeof *s->in);
    s->tmp = ws_calloc(plan->n_inputs * 4 + 16, sizeof *s->tmp);
    bool ok = s->block != NULL && s->hash != NULL && s->lanes != NULL &&
              s->tally != NULL && s->carry != NULL && s->in != NULL && s->tmp != NULL;
    for (size_t k = 0; ok && k <= n_in; k++)
        ok = (s->hash[k] = ws_xxh_stream_new()) != NULL;
    if (ok)
        return WS_OK;
    ws_scratch_free(s, plan);
    return ws_fail(err, WS_E_MEMORY, "no memory for a thread's %zu bytes", block);
}

void ws_scratch_free(ws_scratch *s, const ws_plan *plan)
{
    for (size_t k = 0; s->hash != NULL && k <= plan->n_inputs; k++)
        ws_xxh_stream_free(s->hash[k]);
    ws_free(s->hash);
    ws_free(s->block);
    ws_free(s->lanes);
    ws_free(s->tally);
    ws_free(s->carry);
    ws_free(s->in);
    ws_free(s->tmp);
    *s = (ws_scratch){ 0 };
}

/** Numbers: array i of a tile: sources, then temporaries, then out and spare. */
static void *real_array(const ws_tile_job *j, const ws_scratch *s, size_t i)
{
    const size_t unit = ((j->layout.tile * j->layout.real) + 63) & ~(size_t)63;
    return s->block + (j->layout.n_sources + WS_CHUNKS_READY) * j->layout.raw_bytes +
           i * unit;
}

/** Bytes: array i of a chunk: sources, then the outputs. */
static void *raw_array(const ws_tile_job *j, const ws_scratch *s, size_t i)
{
    return s->block + i * j->layout.raw_bytes;
}

static unsigned char *out_array(const ws_tile_job *j, const ws_scratch *s)
{
    return raw_array(j, s, j->layout.n_sources + s->n_ready);
}

/** The sources of this tensor in order: base, then the job's models. */
static const ws_tensor *source(const ws_tile_job *j, size_t i, size_t *input)
{
    const size_t base = j->pt->base != NULL ? 1 : 0;
    if (i < base) {
        *input = 0;
        return j->pt->base;
    }
    const uint32_t model = j->pt->model_of[i - base];
    *input = ws_plan_input_of(j->plan, model);
    return j->pt->in[model];
}

static size_t source_count(const ws_tile_job *j)
{
    return j->pt->job.n_models + (j->pt->base != NULL ? 1 : 0);
}

void ws_digest_slices(const ws_tensor *t, const void *raw, ws_xxh128 *slices)
{
    const uint64_t n = ws_slice_count(t->rank, t->shape);
    for (uint64_t i = 0; i < n; i++) {
        uint64_t offset, len;
        ws_slice_bytes(t, i, &offset, &len);
        slices[i] = ws_xxh3((const unsigned char *)raw + offset, (size_t)len);
    }
}

/** Bytes of a slice of one source, rounded up so that arrays begin on cache lines. */
static uint64_t kept_bytes(const ws_plan_tensor *pt, const ws_tensor *t)
{
    const ws_job *job = &pt->job;
    const uint64_t n = job->n < job->slice_len ? job->n : job->slice_len;
    return t == NULL ? 0 : (n * ws_dtype_info(t->dtype)->bits / 8 + 63) & ~(uint64_t)63;
}

uint64_t ws_tile_slice_bytes(const ws_plan_tensor *pt)
{
    uint64_t n = kept_bytes(pt, pt->base);
    for (size_t k = 0; k < pt->job.n_models; k++)
        n += kept_bytes(pt, pt->in[pt->model_of[k]]);
    return n;
}

/** Where the bytes of element @p first of source @p i are: kept, or in its array. */
static void *raw_at(const ws_tile_job *j, const ws_scratch *s, size_t i, uint64_t first)
{
    size_t input;
    const unsigned bits = ws_dtype_info(source(j, i, &input)->dtype)->bits;
    if (j->keep == NULL)
        return (unsigned char *)raw_array(j, s, i) + (first - s->first) * bits / 8;
    unsigned char *at = j->keep;
    for (size_t k = 0; k < i; k++)
        at += kept_bytes(j->pt, source(j, k, &input));
    return at + (first - j->slice * j->pt->job.slice_len) * bits / 8;
}

/** Bytes of n elements from element @p first, and where they begin. */
static size_t byte_range(const ws_tensor *t, uint64_t first, size_t n, uint64_t *offset)
{
    const size_t width = ws_dtype_info(t->dtype)->bits;
    *offset = first * width / 8;
    return (size_t)((first + n) * width / 8 - *offset);
}

/** Read raw bytes of source @p i unless they are there. */
static ws_status read_raw(const ws_tile_job *j, const ws_scratch *s, size_t i,
                          uint64_t first, size_t n, ws_err *err)
{
    size_t input;
    uint64_t offset;
    const ws_tensor *t = source(j, i, &input);
    const size_t bytes = byte_range(t, first, n, &offset);
    const ws_plan_input *in = &j->plan->inputs[input];
    if (j->keep != NULL && j->kept)
        return WS_OK;
    const ws_status st =
        ws_ckpt_read(in->ckpt, t, offset, bytes, raw_at(j, s, i, first), err);
    if (st != WS_OK)
        ws_err_at(err, in->path, t->name, -1);
    else
        atomic_fetch_add_explicit(j->read_bytes, bytes, memory_order_relaxed);
    return st;
}

/** Raw bytes of source @p i into its slice's digest when wanted. */
static void hash_raw(const ws_tile_job *j, ws_scratch *s, size_t i, uint64_t first,
                     size_t n)
{
    size_t input;
    uint64_t offset;
    const ws_tensor *t = source(j, i, &input);
    const size_t bytes = byte_range(t, first, n, &offset);
    const void *raw = raw_at(j, s, i, first);
    // a tied partner is hashed under its own name, not here
    if (!j->hash_inputs || strcmp(t->name, j->pt->t.name) != 0)
        return;
    if (j->whole_digests != NULL)
        ws_digest_slices(t, raw, j->whole_digests + input * j->pt->job.n_slices);
    else
        ws_xxh_stream_add(s->hash[input], raw, bytes);
}

static ws_status not_finite(const ws_tile_job *j, size_t input, const ws_tensor *t,
                            uint64_t element, ws_err *err)
{
    const unsigned width = ws_dtype_info(t->dtype)->bits / 8u;
    ws_fail(err, WS_E_NOT_FINITE, "NaN or infinity in '%s'",
            j->plan->inputs[input].label);
    ws_err_at(err, j->plan->inputs[input].path, t->name,
              (int64_t)(t->offset + element * width));
    ws_err_hint(err, "--allow-nonfinite carries such values through the arithmetic");
    return WS_E_NOT_FINITE;
}

/** Whether the scan takes the sources as they are stored. */
static bool is_packed(const ws_tile_job *j)
{
    size_t input;
    bool packed = j->scanning && j->method->passes->packed && j->layout.real == 4;
    for (size_t i = 0; packed && i < source_count(j); i++)
        packed = source(j, i, &input)->dtype == WS_DT_BF16;
    return packed;
}

/** Read elements first .. first+n-1 of all sources, at most a chunk, unless they are
 * kept. */
static ws_status read_sources(const ws_tile_job *j, ws_scratch *s, uint64_t first,
                              size_t n, ws_err *err)
{
    ws_status st = WS_OK;
    s->first = first;
    for (size_t i = 0; st == WS_OK && i < source_count(j); i++)
        st = read_raw(j, s, i, first, n, err);
    return st;
}

/** One source's numbers, at *at: expanded into the i-th array where they are not stored
 * as such. */
static ws_status load_source(const ws_tile_job *j, ws_scratch *s, size_t i,
                             uint64_t first, size_t n, bool packed, const void **at,
                             ws_err *err)
{
    size_t input;
    const ws_tensor *t = source(j, i, &input);
    const ws_dtype own = packed                ? t->dtype
                         : j->layout.real == 8 ? WS_DT_F64
                                               : WS_DT_F32;
    const void *raw = raw_at(j, s, i, first);
    void *dst = real_array(j, s, i);
    *at = t->dtype == own ? raw : dst;
    hash_raw(j, s, i, first, n);
    if (t->dtype != own && own == WS_DT_F64)
        ws_to_f64(t->dtype, raw, dst, n);
    else if (t->dtype != own)
        ws_to_f32(t->dtype, raw, dst, n);
    if (j->plan->req->write.allow_nonfinite || j->scanning ||
        (t->dtype == WS_DT_BF16 && ws_all_finite_bf16(raw, n)))
        return WS_OK;
    const size_t bad = own == WS_DT_F64 ? ws_first_nonfinite_f64(*at, n)
                                        : ws_first_nonfinite_f32(*at, n);
    return bad == n ? WS_OK : not_finite(j, input, t, first + bad, err);
}

/** Elements first .. first+n-1 of what was read, as numbers; tile is ready for the
 * method but for out. Bytes are hashed when wanted. WS_E_NOT_FINITE unless allowed. */
static ws_status load_tile(const ws_tile_job *j, ws_scratch *s, uint64_t first,
                           size_t n, ws_tile *tile, ws_err *err)
{
    const size_t n_sources = source_count(j), base = j->pt->base != NULL ? 1 : 0;
    const bool packed = is_packed(j);
    for (size_t i = 0; i < n_sources; i++) {
        ws_status st = load_source(j, s, i, first, n, packed, &s->in[i], err);
        if (st != WS_OK)
            return st;
    }
    for (size_t i = 0; i < j->layout.n_tmp; i++)
        s->tmp[i] = real_array(j, s, j->layout.n_sources + i);
    *tile = (ws_tile){
        .first = first,
        .n = n,
        .slice = j->slice,
        .base = base ? s->in[0] : NULL,
        .in = s->in + base,
        .packed = packed,
        .out = real_array(j, s, j->layout.n_sources + j->layout.n_tmp),
        .tmp = s->tmp,
        .carry = s->carry,
        .tally = s->tally,
    };
    return WS_OK;
}

/** Where all inputs are equal the output is that input, bit for bit. */
static bool selects_equal(const ws_tile_job *j)
{
    const ws_method *m = j->method;
    return m->keeps_equal != NULL && m->passes == NULL && m->unit == NULL &&
           m->keeps_equal(&j->pt->job);
}

static ws_status check_store(const ws_tile_job *j, const ws_store_tally *t,
                             uint64_t first, double *sums, ws_err *err)
{
    const ws_write_opts *w = &j->plan->req->write;
    const bool overflow = t->overflowed > 0 && w->overflow == WS_OVERFLOW_ERROR;
    sums[WS_SUM_SATURATED] += (double)t->overflowed;
    if (!overflow && (t->not_finite == 0 || w->allow_nonfinite))
        return WS_OK;
    const char *dtype = ws_dtype_info(j->pt->t.dtype)->name;
    if (overflow) {
        ws_fail(err, WS_E_NOT_FINITE, "result overflows %s at element %llu", dtype,
                (unsigned long long)(first + t->first_bad));
        ws_err_hint(err,
                    "--overflow saturate stores the largest %s instead; --dtype "
                    "chooses a wider one",
                    dtype);
    } else {
        ws_fail(err, WS_E_NOT_FINITE, "result is not finite at element %llu",
                (unsigned long long)(first + t->first_bad));
        ws_err_hint(err, "look at the weights: the arithmetic left the range of its "
                         "numbers");
    }
    ws_err_at(err, NULL, j->pt->t.name, -1);
    return WS_E_NOT_FINITE;
}

/** Round the numbers at @p x into the output's dtype, at their place in the chunk. */
static ws_status store(const ws_tile_job *j, ws_scratch *s, const void *x,
                       uint64_t first, size_t n, double *sums, void **bytes,
                       ws_err *err)
{
    ws_store_tally tally = { .first_bad = SIZE_MAX };
    const unsigned width = ws_dtype_info(j->pt->t.dtype)->bits / 8u;
    void *raw = out_array(j, s) + (first - s->first) * width;
    if (j->layout.real == 8)
        ws_from_f64(j->pt->t.dtype, x, raw, n, &tally);
    else
        ws_from_f32(j->pt->t.dtype, x, raw, n, &tally);
    *bytes = raw;
    return check_store(j, &tally, first, sums, err);
}

const void *ws_tile_bytes(const ws_tile_job *j, const ws_scratch *s)
{
    return out_array(j, s);
}

/** Apply the method, round into the chunk's bytes, add to the sums in s->lanes. */
static ws_status apply_tile(const ws_tile_job *j, ws_scratch *s, ws_tile *tile,
                            ws_exec_mode mode, double *sums, ws_err *err)
{
    void *bytes;
    j->method->apply(&j->pt->job, j->state, tile);
    const bool wide = j->layout.real == 8;
    if (selects_equal(j))
        ws_keep_equal(wide, tile, j->pt->job.n_models);
    if (mode == WS_EXEC_NORMS) {
        ws_sums_l1(wide, tile, j->pt->job.n_models, s->lanes);
        return WS_OK;
    }
    ws_status st = store(j, s, tile->out, tile->first, tile->n, sums, &bytes, err);
    if (st != WS_OK || mode == WS_EXEC_MAKE)
        return st;
    if (tile->base == NULL) {
        sums[WS_SUM_CHANGED] +=
            (double)ws_count_changed(wide, tile, j->pt->job.n_models);
        return WS_OK;
    }
    void *back = NULL;
    if (j->pt->t.dtype != (wide ? WS_DT_F64 : WS_DT_F32)) {
        back = real_array(j, s, j->layout.n_sources + j->layout.n_tmp + 1);
        if (wide)
            ws_to_f64(j->pt->t.dtype, bytes, back, tile->n);
        else
            ws_to_f32(j->pt->t.dtype, bytes, back, tile->n);
    }
    ws_sums_update(wide, tile, back, &j->pt->job, j->pt->model_of, j->plan->n_models,
                   s->lanes, &sums[WS_SUM_CHANGED]);
    return WS_OK;
}

ws_status ws_tile_scan(const ws_tile_job *j, ws_scratch *s, int pass, uint64_t first,
                       size_t n, void *partial, bool *different, ws_err *err)
{
    const ws_job *job = &j->pt->job;
    ws_status st = read_sources(j, s, first, n, err);
    for (size_t i = 0, len; st == WS_OK && i < n; i += len) {
        ws_tile tile;
        len = n - i < j->layout.tile ? n - i : j->layout.tile;
        st = load_tile(j, s, first + i, len, &tile, err);
        if (st != WS_OK)
            break;
        j->method->passes->scan(job, pass, j->state, &tile, partial);
        if (different != NULL && !*different)
            *different =
                ws_count_changed(j->layout.real == 8, &tile, job->n_models) > 0;
    }
    return st;
}

ws_status ws_tile_apply(const ws_tile_job *j, ws_scratch *s, uint64_t first, size_t n,
                        ws_exec_mode mode, double *sums, ws_err *err)
{
    ws_status st = read_sources(j, s, first, n, err);
    for (size_t i = 0, len; st == WS_OK && i < n; i += len) {
        ws_tile tile;
        len = n - i < j->layout.tile ? n - i : j->layout.tile;
        st = load_tile(j, s, first + i, len, &tile, err);
        if (st == WS_OK)
            st = apply_tile(j, s, &tile, mode, sums, err);
    }
    return st;
}

/** The bytes of a source in the output's dtype. */
static ws_status convert(const ws_tile_job *j, ws_scratch *s, const ws_tensor *t,
                         const unsigned char *raw, uint64_t first, size_t n,
                         double *sums, ws_err *err)
{
    void *spare = real_array(j, s, 0), *bytes;
    const unsigned width = ws_dtype_info(t->dtype)->bits / 8u;
    ws_status st = WS_OK;
    for (size_t i = 0, len; st == WS_OK && i < n; i += len) {
        len = n - i < j->layout.tile ? n - i : j->layout.tile;
        if (j->layout.real == 8)
            ws_to_f64(t->dtype, raw + i * width, spare, len);
        else
            ws_to_f32(t->dtype, raw + i * width, spare, len);
        st = store(j, s, spare, first + i, len, sums, &bytes, err);
    }
    return st;
}

ws_status ws_tile_copy(const ws_tile_job *j, ws_scratch *s, uint64_t first, size_t n,
                       double *sums, const void **bytes, ws_err *err)
{
    ws_status st = WS_OK;
    s->first = first;
    for (size_t i = 0; st == WS_OK && i < source_count(j); i++) {
        size_t input;
        const ws_tensor *t = source(j, i, &input);
        const bool wanted = (int)input == j->pt->copy_from;
        if (!wanted && !j->hash_inputs)
            continue;
        const void *raw = raw_at(j, s, i, first);
        st = read_raw(j, s, i, first, n, err);
        if (st == WS_OK)
            hash_raw(j, s, i, first, n);
        if (!wanted || st != WS_OK)
            continue;
        const bool same = t->dtype == j->pt->t.dtype;
        *bytes = same ? raw : out_array(j, s);
        if (!same)
            st = convert(j, s, t, raw, first, n, sums, err);
    }
    return st;
}
