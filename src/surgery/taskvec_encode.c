/*
 * taskvec_encode.c - a task vector in the making, as a checkpoint of computed tensors
 *
 * Every stored list (values, gaps, exact entries, their gaps) is the blocks' parts one
 * after the other, and the table says where each begins: so a read finds its block by
 * the table, makes it, and copies the part that it wants.
 */
#include "surgery/taskvec_encode.h"

#include <stdio.h>
#include <string.h>

#include "ckpt/ckpt_internal.h"

/** A stored tensor: what it is of which tensor of the model. */
struct item {
    ws_tv_role role;
    size_t plan;
};

struct encoder {
    ws_tv_plan *plans; // (n)
    ws_tv_maker maker;
    const void *header;
    struct item *items; // a stored tensor's offset is its index, and one more: header
    size_t n_items;
    ws_arena arena;
    ws_tv_lender lender;
};

static ws_status no_memory(ws_err *err)
{
    return ws_fail(err, WS_E_MEMORY, "no memory for a task vector");
}

static size_t element_size(const ws_tv_plan *p)
{
    return ws_dtype_info(p->t.dtype)->bits / 8;
}

/* ---- counting ---- */

ws_status ws_tv_plan_update(ws_tv_plan *p, ws_arena *arena, ws_err *err)
{
    p->kind = WS_TV_KIND_UPDATE;
    p->blocks = ws_tv_blocks_of(p->t.rank, p->t.shape, p->t.n_elements);
    p->table = ws_arena_calloc(arena, (size_t)p->blocks.n_blocks + 1, sizeof *p->table);
    return p->table == NULL ? no_memory(err) : WS_OK;
}

/** Indexes of the nonzero entries of an update; their number. */
static size_t nonzeros(const void *update, bool wide, size_t n, uint32_t *index)
{
    size_t found = 0;
    if (wide) {
        const double *x = update;
        for (size_t i = 0; i < n; i++) {
            index[found] = (uint32_t)i;
            found += x[i] != 0.0;
        }
    } else {
        const float *x = update;
        for (size_t i = 0; i < n; i++) {
            index[found] = (uint32_t)i;
            found += x[i] != 0.0f;
        }
    }
    return found;
}

void ws_tv_plan_count(ws_tv_plan *p, uint64_t b, ws_tv_made *m)
{
    uint64_t first;
    size_t n;
    ws_tv_block_at(&p->blocks, b, &first, &n);
    const size_t found = nonzeros(m->update, p->wide, n, m->index);
    p->table[b][0] = found;
    p->table[b][1] = ws_tv_gaps_size(m->index, found);
    p->table[b][2] = m->n_side;
    p->table[b][3] = ws_tv_gaps_size(m->side, m->n_side);
}

/** Counts become the sums before each block; the last row holds all. */
static void sum_up(ws_tv_plan *p)
{
    uint64_t sum[WS_TV_COLUMNS] = { 0 };
    for (uint64_t b = 0; b <= p->blocks.n_blocks; b++)
        for (int c = 0; c < WS_TV_COLUMNS; c++) {
            const uint64_t count = p->table[b][c];
            p->table[b][c] = sum[c];
            sum[c] += b < p->blocks.n_blocks ? count : 0;
        }
}

static const uint64_t *totals(const ws_tv_plan *p)
{
    return p->table[p->blocks.n_blocks];
}

/** The smallest of dense, map and gaps; columns that it does not use become 0. */
static void choose(ws_tv_plan *p)
{
    const uint64_t real = p->wide ? 8 : 4, *all = totals(p);
    const uint64_t table = (p->blocks.n_blocks + 1) * sizeof *p->table;
    const uint64_t dense = p->blocks.n * real + (all[2] > 0 ? table : 0);
    const uint64_t map =
        ws_tv_map_offset(&p->blocks, p->blocks.n_blocks) + all[0] * real + table;
    const uint64_t index = all[1] + all[0] * real + table;
    p->encoding = WS_TV_DELTA;
    if (map < dense)
        p->encoding = WS_TV_MAP;
    if (index < dense && index < map)
        p->encoding = WS_TV_INDEX;
    for (uint64_t b = 0; b <= p->blocks.n_blocks; b++) {
        if (p->encoding == WS_TV_DELTA)
            p->table[b][0] = 0;
        if (p->encoding != WS_TV_INDEX)
            p->table[b][1] = 0;
    }
}

/* ---- reading ---- */

void ws_tv_lender_init(ws_tv_lender *l)
{
    l->free = NULL;
    pthread_mutex_init(&l->lock, NULL);
}

void ws_tv_lender_free(ws_tv_lender *l)
{
    while (l->free != NULL) {
        ws_tv_made *m = l->free;
        l->free = m->next;
        ws_free(m);
    }
    pthread_mutex_destroy(&l->lock);
}

ws_tv_made *ws_tv_borrow(ws_tv_lender *l)
{
    pthread_mutex_lock(&l->lock);
    ws_tv_made *m = l->free;
    if (m != NULL)
        l->free = m->next;
    pthread_mutex_unlock(&l->lock);
    return m != NULL ? m : ws_alloc(sizeof *m);
}

void ws_tv_give_back(ws_tv_lender *l, ws_tv_made *m)
{
    pthread_mutex_lock(&l->lock);
    m->next = l->free;
    l->free = m;
    pthread_mutex_unlock(&l->lock);
}

/** What a role's stored tensor is made of: its column of the table, or -1. */
static int column_of(ws_tv_role role, bool sparse)
{
    switch (role) {
    case WS_TV_DELTA:
        return sparse ? 0 : -1;
    case WS_TV_INDEX:
        return 1;
    case WS_TV_BITS:
        return 2;
    case WS_TV_SIDE:
        return 3;
    default:
        return -1;
    }
}

/** The block that holds entry @p at of column @p c. */
static uint64_t block_of_entry(const ws_tv_plan *p, int c, uint64_t at)
{
    uint64_t lo = 0, hi = p->blocks.n_blocks;
    while (hi - lo > 1) {
        const uint64_t mid = lo + (hi - lo) / 2;
        if (p->table[mid][c] <= at)
            lo = mid;
        else
            hi = mid;
    }
    return lo;
}

/** A made block's part of a column, in m->scratch[0]. */
static const void *column_part(const ws_tv_plan *p, int c, size_t n, ws_tv_made *m)
{
    uint8_t *out = (uint8_t *)(void *)m->scratch[0];
    if (c == 2)
        return m->bits;
    if (c == 3) {
        ws_tv_gaps_encode(m->side, m->n_side, out);
        return out;
    }
    const size_t found = nonzeros(m->update, p->wide, n, m->index);
    if (c == 1) {
        ws_tv_gaps_encode(m->index, found, out);
        return out;
    }
    for (size_t i = 0; i < found; i++)
        if (p->wide)
            m->scratch[0][i] = m->update[m->index[i]];
        else
            memcpy(out + 4 * i, (const char *)m->update + 4 * (size_t)m->index[i], 4);
    return out;
}

/** Bytes offset .. offset+len-1 of a list. */
static ws_status read_column(const struct encoder *e, const struct item *it, int c,
                             size_t unit, uint64_t offset, size_t len, char *dst,
                             ws_tv_made *m, ws_err *err)
{
    const ws_tv_plan *p = &e->plans[it->plan];
    while (len > 0) {
        const uint64_t b = block_of_entry(p, c, offset / unit);
        uint64_t first;
        size_t n;
        ws_tv_block_at(&p->blocks, b, &first, &n);
        const ws_status st = e->maker.make(e->maker.self, it->plan, b, 0, n, m, err);
        if (st != WS_OK)
            return st;
        const uint64_t begin = p->table[b][c] * unit, end = p->table[b + 1][c] * unit;
        const size_t bytes = end - offset < len ? (size_t)(end - offset) : len;
        memcpy(dst, (const char *)column_part(p, c, n, m) + (offset - begin), bytes);
        dst += bytes;
        offset += bytes;
        len -= bytes;
    }
    return WS_OK;
}

ws_status ws_tv_read_dense(const ws_tv_maker *maker, size_t tensor, const ws_tv_plan *p,
                           uint64_t offset, size_t len, char *dst, ws_tv_made *m,
                           ws_err *err)
{
    const size_t real = p->wide ? 8 : 4;
    while (len > 0) {
        const uint64_t element = offset / real;
        const uint64_t b = ws_tv_block_of(&p->blocks, element);
        uint64_t first;
        size_t n;
        ws_tv_block_at(&p->blocks, b, &first, &n);
        const size_t from = (size_t)(element - first), skip = (size_t)(offset % real);
        const size_t count =
            skip + len < (n - from) * real ? (skip + len + real - 1) / real : n - from;
        const ws_status st =
            maker->make(maker->self, tensor, b, from, from + count, m, err);
        if (st != WS_OK)
            return st;
        const size_t bytes = count * real - skip < len ? count * real - skip : len;
        memcpy(dst, (const char *)m->update + skip, bytes);
        dst += bytes;
        offset += bytes;
        len -= bytes;
    }
    return WS_OK;
}

static ws_status read_map(const struct encoder *e, const struct item *it,
                          uint64_t offset, size_t len, char *dst, ws_tv_made *m,
                          ws_err *err)
{
    const ws_tv_plan *p = &e->plans[it->plan];
    const uint64_t slice_bytes = p->blocks.slice / 8 + (p->blocks.slice % 8 != 0);
    while (len > 0) {
        const uint64_t b = offset / slice_bytes * p->blocks.per_slice +
                           offset % slice_bytes / (WS_TV_BLOCK / 8);
        uint64_t first;
        size_t n;
        ws_tv_block_at(&p->blocks, b, &first, &n);
        const ws_status st = e->maker.make(e->maker.self, it->plan, b, 0, n, m, err);
        if (st != WS_OK)
            return st;
        const size_t found = nonzeros(m->update, p->wide, n, m->index);
        uint8_t *map = (uint8_t *)(void *)m->scratch[0];
        ws_tv_map_encode(m->index, found, n, map);
        const size_t skip = (size_t)(offset - ws_tv_map_offset(&p->blocks, b));
        const size_t left = (n + 7) / 8 - skip, bytes = left < len ? left : len;
        memcpy(dst, map + skip, bytes);
        dst += bytes;
        offset += bytes;
        len -= bytes;
    }
    return WS_OK;
}

static ws_status encoder_read(const ws_ckpt *c, const ws_tensor *t, uint64_t offset,
                              size_t len, void *dst, ws_err *err)
{
    struct encoder *e = c->self;
    if (t->offset == e->n_items) { // the model's header
        memcpy(dst, (const char *)e->header + offset, len);
        return WS_OK;
    }
    const struct item *it = &e->items[t->offset];
    const ws_tv_plan *p = &e->plans[it->plan];
    if (it->role == WS_TV_WHOLE)
        return ws_ckpt_read(p->whole_of, p->whole, offset, len, dst, err);
    if (it->role == WS_TV_TABLE) {
        memcpy(dst, (const char *)p->table + offset, len);
        return WS_OK;
    }
    ws_tv_made *m = ws_tv_borrow(&e->lender);
    if (m == NULL)
        return no_memory(err);
    const int column = column_of(it->role, p->encoding != WS_TV_DELTA);
    const size_t unit = it->role == WS_TV_DELTA  ? (p->wide ? 8 : 4)
                        : it->role == WS_TV_BITS ? element_size(p)
                                                 : 1;
    ws_status st;
    if (it->role == WS_TV_MAP)
        st = read_map(e, it, offset, len, dst, m, err);
    else if (column < 0)
        st = ws_tv_read_dense(&e->maker, it->plan, &e->plans[it->plan], offset, len,
                              dst, m, err);
    else
        st = read_column(e, it, column, unit, offset, len, dst, m, err);
    ws_tv_give_back(&e->lender, m);
    return st;
}

static void encoder_close(void *self)
{
    struct encoder *e = self;
    ws_tv_lender_free(&e->lender);
    ws_arena_free(&e->arena);
    ws_free(e);
}

static const ws_ckpt_ops encoder_ops = { .read = encoder_read, .close = encoder_close };

/* ---- the stored tensors ---- */

/** One more stored tensor of role @p role for the model's tensor @p k. */
static ws_status store(struct encoder *e, ws_ckpt *c, ws_tv_role role, size_t k,
                       ws_dtype dtype, int rank, const uint64_t *shape, ws_err *err)
{
    const char *name = e->plans[k].t.name;
    char full[WS_TV_PREFIX_MOST + WS_MAX_NAME + 1];
    const int n = snprintf(full, sizeof full, "%s%s", ws_tv_prefix(role), name);
    if (n < 0 || n > WS_MAX_NAME) {
        ws_fail(err, WS_E_UNSUPPORTED, "the name is too long for a prefix: %zu bytes",
                strlen(name));
        ws_err_at(err, NULL, name, -1);
        return WS_E_UNSUPPORTED;
    }
    ws_tensor t = { .name = full,
                    .dtype = dtype,
                    .rank = rank,
                    .shape = shape,
                    .file = WS_NO_FILE,
                    .offset = e->n_items };
    e->items[e->n_items++] = (struct item){ role, k };
    const ws_status st = ws_tensor_measure(&t, err);
    return st == WS_OK ? ws_ckpt_add_tensor(c, &t, 0, err) : st;
}

static ws_status store_list(struct encoder *e, ws_ckpt *c, ws_tv_role role, size_t k,
                            ws_dtype dtype, uint64_t n, ws_err *err)
{
    return store(e, c, role, k, dtype, 1, &n, err);
}

static ws_status store_update(struct encoder *e, ws_ckpt *c, size_t k, ws_err *err)
{
    static const ws_dtype bits[] = {
        [1] = WS_DT_U8, [2] = WS_DT_U16, [4] = WS_DT_U32, [8] = WS_DT_U64
    };
    const ws_tv_plan *p = &e->plans[k];
    const uint64_t *all = totals(p);
    const ws_dtype real = p->wide ? WS_DT_F64 : WS_DT_F32;
    const bool sparse = p->encoding != WS_TV_DELTA;
    ws_status st = sparse
                       ? store_list(e, c, WS_TV_DELTA, k, real, all[0], err)
                       : store(e, c, WS_TV_DELTA, k, real, p->t.rank, p->t.shape, err);
    if (st == WS_OK && p->encoding == WS_TV_MAP)
        st = store_list(e, c, WS_TV_MAP, k, WS_DT_U8,
                        ws_tv_map_offset(&p->blocks, p->blocks.n_blocks), err);
    if (st == WS_OK && p->encoding == WS_TV_INDEX)
        st = store_list(e, c, WS_TV_INDEX, k, WS_DT_U8, all[1], err);
    if (st == WS_OK && (sparse || all[2] > 0)) {
        const uint64_t shape[] = { p->blocks.n_blocks + 1, WS_TV_COLUMNS };
        st = store(e, c, WS_TV_TABLE, k, WS_DT_U64, 2, shape, err);
    }
    if (st == WS_OK && all[2] > 0)
        st = store_list(e, c, WS_TV_SIDE, k, WS_DT_U8, all[3], err);
    if (st == WS_OK && all[2] > 0)
        st = store_list(e, c, WS_TV_BITS, k, bits[element_size(p)], all[2], err);
    return st;
}

/** Settle an update's encoding and count it. */
static void settle(ws_tv_plan *p, ws_taskvec_counts *n)
{
    sum_up(p);
    const uint64_t *all = totals(p);
    if (p->kind == WS_TV_KIND_UPDATE && all[0] == 0 && all[2] == 0 && !p->converted) {
        p->kind = WS_TV_KIND_SAME;
        return;
    }
    n->elements += p->blocks.n;
    n->nonzero += all[0];
    n->exact += all[2];
    choose(p);
    n->dense += p->encoding == WS_TV_DELTA;
    n->bitmap += p->encoding == WS_TV_MAP;
    n->index += p->encoding == WS_TV_INDEX;
}

static ws_status store_all(struct encoder *e, ws_ckpt *c, size_t n,
                           const ws_tv_facts *facts, ws_taskvec_counts *counts,
                           ws_err *err)
{
    ws_status st = WS_OK;
    for (size_t k = 0; k < n && st == WS_OK; k++) {
        ws_tv_plan *p = &e->plans[k];
        if (p->kind == WS_TV_KIND_UPDATE)
            settle(p, counts);
        counts->same += p->kind == WS_TV_KIND_SAME;
        counts->whole += p->kind == WS_TV_KIND_WHOLE;
        if (p->kind == WS_TV_KIND_UPDATE)
            st = store_update(e, c, k, err);
        else if (p->kind == WS_TV_KIND_WHOLE)
            st = store(e, c, WS_TV_WHOLE, k, p->t.dtype, p->t.rank, p->t.shape, err);
    }
    const uint64_t len = facts->header_len;
    const ws_tensor header = { .name = WS_TV_HEADER,
                               .dtype = WS_DT_U8,
                               .rank = 1,
                               .shape = &len,
                               .n_elements = len,
                               .n_bytes = len,
                               .file = WS_NO_FILE,
                               .offset = e->n_items };
    return st == WS_OK ? ws_ckpt_add_tensor(c, &header, 0, err) : st;
}

/* ---- the description ---- */

static void put_text(ws_buf *b, const char *s)
{
    if (s == NULL)
        ws_buf_puts(b, "null");
    else
        ws_buf_json_string(b, s, strlen(s));
}

static void describe_tensor(ws_buf *b, const ws_tv_plan *p)
{
    static const char *const words[] = { "same", "delta", "whole" };
    ws_buf_putc(b, '[');
    put_text(b, p->t.name);
    ws_buf_printf(b, ",\"%s\",[", ws_dtype_info(p->t.dtype)->name);
    for (int d = 0; d < p->t.rank; d++)
        ws_buf_printf(b, "%s%llu", d == 0 ? "" : ",",
                      (unsigned long long)p->t.shape[d]);
    ws_buf_printf(b, "],\"%s\"]", words[p->kind]);
}

static void describe(ws_buf *b, const ws_tv_plan *plans, size_t n, const ws_tv_facts *f)
{
    ws_buf_puts(b, "{\"schema\":\"" WS_TV_SCHEMA "\",\"base\":");
    put_text(b, f->base);
    ws_buf_puts(b, ",\"model\":");
    put_text(b, f->model);
    ws_buf_printf(b, ",\"exact\":%s,\"sparsified\":", f->exact ? "true" : "false");
    put_text(b, f->sparsified);
    ws_buf_puts(b, f->has_meta ? ",\"metadata\":{" : ",\"metadata\":null");
    for (size_t i = 0; f->has_meta && i < f->n_meta; i++) {
        if (i > 0)
            ws_buf_putc(b, ',');
        put_text(b, f->meta[i].key);
        ws_buf_putc(b, ':');
        put_text(b, f->meta[i].value);
    }
    ws_buf_puts(b, f->has_meta ? "}" : "");
    for (size_t i = 0; i < f->n_files; i++) {
        ws_buf_puts(b, i == 0 ? ",\"files\":[" : ",");
        put_text(b, f->files[i]);
    }
    ws_buf_puts(b, f->n_files > 0 ? "],\"removed\":[" : ",\"removed\":[");
    for (size_t i = 0; i < f->n_removed; i++) {
        if (i > 0)
            ws_buf_putc(b, ',');
        put_text(b, f->removed[i]);
    }
    ws_buf_puts(b, "],\"tensors\":[");
    for (size_t k = 0; k < n; k++) {
        if (k > 0)
            ws_buf_putc(b, ',');
        describe_tensor(b, &plans[k]);
    }
    ws_buf_puts(b, "]}");
}

ws_status ws_tv_encode(ws_ckpt **out, const char *path, ws_tv_plan *plans, size_t n,
                       const ws_tv_maker *maker, const ws_tv_facts *facts,
                       ws_buf *description, ws_taskvec_counts *counts, ws_err *err)
{
    struct encoder *e = ws_calloc(1, sizeof *e);
    ws_ckpt *c = NULL;
    if (e == NULL)
        return no_memory(err);
    ws_tv_lender_init(&e->lender);
    e->plans = plans;
    e->maker = *maker;
    e->header = facts->header;
    e->items = ws_arena_calloc(&e->arena, n * 5 + 1, sizeof *e->items);
    *counts = (ws_taskvec_counts){ .removed = facts->n_removed };
    ws_status st = e->items == NULL ? no_memory(err) : WS_OK;
    if (st == WS_OK)
        st = ws_ckpt_new(&c, path, "taskvec", &encoder_ops, e, err);
    for (size_t i = 0; st == WS_OK && i < facts->n_sources; i++)
        st = ws_ckpt_borrow_files(c, facts->sources[i], err);
    if (st == WS_OK)
        st = store_all(e, c, n, facts, counts, err);
    if (st == WS_OK)
        st = ws_ckpt_finish(c, err);
    if (st == WS_OK) {
        describe(description, plans, n, facts);
        if (description->failed)
            st = no_memory(err);
    }
    if (st == WS_OK)
        *out = c;
    else if (c != NULL)
        ws_ckpt_free(c);
    else
        encoder_close(e);
    return st;
}
