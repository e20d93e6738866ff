/*
 * ckpt.c - a checkpoint in memory: its builder, its name table, and what callers ask it
 *
 * Names are found through an open-addressing table whose hash is seeded at random, so
 * that no file can be written to make its names collide.
 */
#define _XOPEN_SOURCE 700 // realpath

#include "wsurg/ckpt.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

#include "ckpt/archive.h"
#include "ckpt/ckpt_internal.h"
#include "ckpt/gguf.h"
#include "wsurg/spool.h"
#include "wsurg/text.h"

/** Nobody's file can know it: the kernel's random bytes, or else time and addresses. */
static uint64_t seed_make(const void *somewhere)
{
    uint64_t seed;
    if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) == (ssize_t)sizeof seed)
        return seed;
    struct timespec t = { 0, 0 };
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_nsec * 0x9E3779B97F4A7C15u ^ (uint64_t)t.tv_sec ^
           (uint64_t)(uintptr_t)somewhere;
}

/** Last component of a path, without slashes at its end: start and length. */
static const char *base_name(const char *path, size_t *len)
{
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/')
        end--;
    size_t start = end;
    while (start > 0 && path[start - 1] != '/')
        start--;
    *len = end - start;
    return path + start;
}

static char *label_make(const char *path, bool is_dir)
{
    size_t len;
    const char *name = base_name(path, &len);
    if (strcmp(ws_spool_shown(path), "-") == 0)
        return ws_strdup("stdin"); // not the number of its descriptor
    char *real = NULL, *label = NULL;
    if (is_dir && (len == 0 || (len <= 2 && strspn(name, ".") >= len))) {
        real = realpath(path, NULL); // "." and ".." say nothing
        if (real != NULL)
            name = base_name(real, &len);
    }
    if (!is_dir) {
        size_t dot = len;
        while (dot > 0 && name[dot - 1] != '.')
            dot--;
        if (dot > 1)
            len = dot - 1;
    }
    label = ws_strndup(name, len);
    free(real);
    return label;
}

ws_status ws_ckpt_new(ws_ckpt **out, const char *path, const char *format,
                      const ws_ckpt_ops *ops, void *self, ws_err *err)
{
    ws_ckpt *c = ws_calloc(1, sizeof *c);
    if (c == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for a checkpoint");
    struct stat st;
    c->is_dir = stat(path, &st) == 0 && S_ISDIR(st.st_mode);
    c->format = format;
    c->seed = seed_make(c);
    c->path = ws_strdup(path);
    c->label = label_make(path, c->is_dir);
    if (c->path == NULL || c->label == NULL) {
        ws_ckpt_free(c);
        return ws_fail(err, WS_E_MEMORY, "no memory for a checkpoint");
    }
    c->ops = ops;
    c->self = self;
    *out = c;
    return WS_OK;
}

void ws_ckpt_free(ws_ckpt *c)
{
    if (c == NULL)
        return;
    if (c->ops != NULL && c->ops->close != NULL)
        c->ops->close(c->self);
    for (size_t i = 0; i < c->n_files; i++)
        if (c->fds[i] >= 0)
            close(c->fds[i]);
    ws_free(c->fds);
    ws_free(c->files);
    ws_free(c->records);
    ws_free(c->slots);
    ws_free(c->meta);
    ws_free(c->config);
    ws_free(c->path);
    ws_free(c->label);
    ws_free(c->home);
    ws_arena_free(&c->arena);
    ws_free(c);
}

/* ---- name table ---- */

static uint64_t name_hash(const ws_ckpt *c, const char *name)
{
    return XXH3_64bits_withSeed(name, strlen(name), c->seed);
}

/** The slot that holds @p name, or the free one where it belongs. */
static size_t slot_find(const ws_ckpt *c, const char *name, uint64_t hash)
{
    const uint32_t tag = (uint32_t)(hash >> 32);
    size_t i = hash & (c->n_slots - 1);
    while (c->slots[i].record != 0 &&
           (c->slots[i].tag != tag ||
            strcmp(c->records[c->slots[i].record - 1].t.name, name) != 0))
        i = (i + 1) & (c->n_slots - 1);
    return i;
}

/** A new table of all records, at most half full even with one more. */
static bool table_build(ws_ckpt *c)
{
    size_t n_slots = 16;
    while (n_slots / 2 < c->n + 1)
        n_slots *= 2;
    struct ws_slot *slots = ws_calloc(n_slots, sizeof *slots);
    if (slots == NULL)
        return false;
    ws_free(c->slots);
    c->slots = slots;
    c->n_slots = n_slots;
    for (size_t r = 0; r < c->n; r++) {
        const uint64_t hash = name_hash(c, c->records[r].t.name);
        size_t i = hash & (n_slots - 1);
        while (slots[i].record != 0)
            i = (i + 1) & (n_slots - 1);
        slots[i] = (struct ws_slot){ (uint32_t)(hash >> 32), (uint32_t)r + 1 };
    }
    return true;
}

size_t ws_ckpt_lookup(const ws_ckpt *c, const char *name)
{
    if (c->n_slots == 0)
        return SIZE_MAX;
    const size_t i = slot_find(c, name, name_hash(c, name));
    return c->slots[i].record == 0 ? SIZE_MAX : c->slots[i].record - 1;
}

/* ---- building ---- */

ws_status ws_tensor_measure(ws_tensor *t, ws_err *err)
{
    const unsigned bits_each = ws_dtype_info(t->dtype)->bits;
    uint64_t bits = bits_each;
    bool empty = false, fits = true;
    // A dimension of 0 hides no overflow: rows are products of the other dimensions.
    for (int i = 0; i < t->rank; i++) {
        if (t->shape[i] == 0)
            empty = true;
        else
            fits = fits && ws_mul_u64(bits, t->shape[i], &bits);
    }
    if (!fits) {
        ws_fail(err, WS_E_HEADER, "shape of tensor overflows: more than 2^64 bits");
        return ws_err_at(err, NULL, t->name, -1), WS_E_HEADER;
    }
    t->n_elements = empty ? 0 : bits / bits_each;
    if (empty)
        bits = 0;
    if (bits % 8 != 0) {
        ws_fail(err, WS_E_HEADER,
                "tensor has %llu bits (%llu elements of %s), which are no whole bytes",
                (unsigned long long)bits, (unsigned long long)t->n_elements,
                ws_dtype_info(t->dtype)->name);
        return ws_err_at(err, NULL, t->name, -1), WS_E_HEADER;
    }
    t->n_bytes = bits / 8;
    return WS_OK;
}

static ws_status no_memory(const ws_ckpt *c, ws_err *err)
{
    return ws_fail(err, WS_E_MEMORY, "no memory for the tables of %zu tensors",
                   c->n + 1);
}

static ws_status report_twice(const ws_ckpt *c, const ws_tensor *first,
                              const ws_tensor *again, ws_err *err)
{
    if (first->file == again->file || first->file >= c->n_files ||
        again->file >= c->n_files)
        ws_fail(err, WS_E_HEADER, "tensor stands twice in the header");
    else
        ws_fail(err, WS_E_HEADER, "tensor stands in two shards, '%s' and '%s'",
                c->files[first->file].name, c->files[again->file].name);
    ws_err_at(err, NULL, again->name, -1);
    return WS_E_HEADER;
}

ws_status ws_ckpt_add_tensor(ws_ckpt *c, const ws_tensor *t, uint64_t at, ws_err *err)
{
    if (c->n >= UINT32_MAX - 1)
        return ws_fail(err, WS_E_UNSUPPORTED, "more than 2^32 tensors");
    if (c->n_slots / 2 < c->n + 1 && !table_build(c))
        return no_memory(c, err);
    const uint64_t hash = name_hash(c, t->name);
    const size_t slot = slot_find(c, t->name, hash);
    if (c->slots[slot].record != 0)
        return report_twice(c, &c->records[c->slots[slot].record - 1].t, t, err);
    if (!ws_grow((void **)&c->records, c->n, &c->cap, sizeof *c->records))
        return no_memory(c, err);

    struct ws_record *r = &c->records[c->n];
    const size_t shape_bytes = (size_t)t->rank * sizeof *t->shape;
    uint64_t *shape = ws_arena_alloc(&c->arena, shape_bytes);
    r->t = *t;
    r->t.name = ws_arena_strdup(&c->arena, t->name);
    r->t.shape = shape;
    r->at = at;
    if (shape == NULL || r->t.name == NULL)
        return no_memory(c, err);
    if (shape_bytes > 0)
        memcpy(shape, t->shape, shape_bytes);
    c->n++;
    c->slots[slot] = (struct ws_slot){ (uint32_t)(hash >> 32), (uint32_t)c->n };
    return WS_OK;
}

ws_status ws_ckpt_add_meta(ws_ckpt *c, const char *key, const char *value, ws_err *err)
{
    if (!ws_grow((void **)&c->meta, c->n_meta, &c->cap_meta, sizeof *c->meta))
        return ws_fail(err, WS_E_MEMORY, "no memory for metadata");
    const ws_meta m = { ws_arena_strdup(&c->arena, key),
                        ws_arena_strdup(&c->arena, value) };
    if (m.key == NULL || m.value == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for metadata");
    c->meta[c->n_meta++] = m;
    return WS_OK;
}

static int compare_u64(uint64_t a, uint64_t b)
{
    return (a > b) - (a < b);
}

static int compare_records(const void *a, const void *b)
{
    const ws_tensor *x = &((const struct ws_record *)a)->t;
    const ws_tensor *y = &((const struct ws_record *)b)->t;
    int by = compare_u64(x->file, y->file);
    if (by == 0)
        by = compare_u64(x->offset, y->offset);
    if (by == 0) // empty tensors share the offset of the one that follows
        by = compare_u64(x->n_bytes, y->n_bytes);
    return by != 0 ? by : strcmp(x->name, y->name);
}

static int compare_meta(const void *a, const void *b)
{
    return strcmp(((const ws_meta *)a)->key, ((const ws_meta *)b)->key);
}

static ws_status kind_read(ws_ckpt *c, ws_err *err)
{
    static const char *const words[] = { "model", "taskvec", "covariance", "mask",
                                         "adapter" };
    const char *word = ws_ckpt_meta(c, "wsurg.kind");
    c->kind = WS_KIND_MODEL;
    if (word == NULL)
        return WS_OK;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (strcmp(word, words[i]) == 0) {
            c->kind = (ws_ckpt_kind)i;
            return WS_OK;
        }
    }
    char shown[64];
    ws_show(word, shown, sizeof shown);
    ws_fail(err, WS_E_UNSUPPORTED, "metadata says wsurg.kind '%s', which is unknown",
            shown);
    ws_err_hint(err, "a newer version may have written it");
    ws_err_at(err, c->path, NULL, -1);
    return WS_E_UNSUPPORTED;
}

ws_status ws_ckpt_finish(ws_ckpt *c, ws_err *err)
{
    if (c->n > 1)
        qsort(c->records, c->n, sizeof *c->records, compare_records);
    if (!table_build(c))
        return no_memory(c, err);
    if (c->n_meta > 1)
        qsort(c->meta, c->n_meta, sizeof *c->meta, compare_meta);
    for (size_t i = 1; i < c->n_meta; i++) {
        if (strcmp(c->meta[i - 1].key, c->meta[i].key) != 0)
            continue;
        char shown[64];
        ws_show(c->meta[i].key, shown, sizeof shown);
        ws_fail(err, WS_E_HEADER, "metadata key '%s' stands twice", shown);
        ws_err_at(err, c->path, NULL, -1);
        return WS_E_HEADER;
    }
    return kind_read(c, err);
}

/* ---- opening ---- */

/** A download that has not finished is no broken file. */
static void say_unfinished(const char *path, ws_err *err)
{
    static const char tail[] = ".incomplete";
    const size_t n = strlen(path), k = sizeof tail - 1;
    ws_err why = WS_ERR_INIT;
    if (err == NULL || n <= k || strcmp(path + n - k, tail) != 0)
        return;
    ws_fail(&why, WS_E_HEADER, "file is a download that has not finished");
    ws_err_hint(&why, "fetch it again");
    *err = why;
}

static ws_status open_file(ws_ckpt **out, const char *path, ws_diag *warnings,
                           ws_err *err)
{
    ws_ckpt *c = NULL;
    uint32_t file;
    size_t len;
    const char *name = base_name(path, &len);
    ws_status st = ws_ckpt_new(&c, path, "safetensors", NULL, NULL, err);
    if (st == WS_OK)
        st = ws_ckpt_add_file(c, name, path, &file, err);
    bool known = false; // by readers that set the format
    if (st == WS_OK)
        st = ws_archive_load(c, file, &known, warnings, err);
    if (st == WS_OK && !known)
        st = ws_gguf_load(c, file, &known, warnings, err);
    if (st == WS_OK && !known)
        st = ws_st_load(c, file, true, warnings, err);
    if (st == WS_OK)
        st = ws_ckpt_finish(c, err);
    if (st != WS_OK) {
        if (st == WS_E_HEADER)
            say_unfinished(path, err);
        ws_err_at(err, path, NULL, -1);
        ws_ckpt_free(c);
        return st;
    }
    *out = c;
    return WS_OK;
}

ws_status ws_ckpt_open(ws_ckpt **out, const char *path, ws_diag *warnings, ws_err *err)
{
    struct stat st;
    if (stat(path, &st) != 0) {
        ws_fail_sys(err, WS_E_IO, errno, "cannot open");
        ws_err_at(err, path, NULL, -1);
        return WS_E_IO;
    }
    if (S_ISDIR(st.st_mode))
        return ws_hf_dir_open(out, path, warnings, err);
    return open_file(out, path, warnings, err);
}

/* ---- asking ---- */

const char *ws_ckpt_path(const ws_ckpt *c)
{
    return c->path;
}

const char *ws_ckpt_home(const ws_ckpt *c)
{
    return c->home != NULL ? c->home : c->path;
}

const char *ws_ckpt_label(const ws_ckpt *c)
{
    return c->label;
}

const char *ws_ckpt_label_among(const ws_ckpt *const *all, size_t n, size_t i,
                                ws_arena *arena)
{
    const char *stem = all[i]->label;
    size_t same = 0, before = 0;
    for (size_t k = 0; k < n; k++)
        if (strcmp(stem, all[k]->label) == 0) {
            same++;
            before += k <= i;
        }
    if (same == 1)
        return stem;
    const size_t size = strlen(stem) + 24;
    char *text = ws_arena_alloc(arena, size);
    if (text != NULL)
        snprintf(text, size, "%s-%zu", stem, before);
    return text;
}

const char *ws_ckpt_format(const ws_ckpt *c)
{
    return c->format;
}

bool ws_ckpt_is_dir(const ws_ckpt *c)
{
    return c->is_dir;
}

ws_ckpt_kind ws_ckpt_kind_of(const ws_ckpt *c)
{
    return c->kind;
}

uint64_t ws_ckpt_memory(const ws_ckpt *c)
{
    enum { OWN = 128 }; // a tensor whose bytes are computed has more about it
    return c->arena.total + c->n * sizeof *c->records + c->n_slots * sizeof *c->slots +
           c->n_files * (sizeof *c->files + sizeof *c->fds) +
           (c->ops != NULL ? c->n * OWN : 0);
}

size_t ws_ckpt_count(const ws_ckpt *c)
{
    return c->n;
}

const ws_tensor *ws_ckpt_tensor(const ws_ckpt *c, size_t i)
{
    return &c->records[i].t;
}

const ws_tensor *ws_ckpt_find(const ws_ckpt *c, const char *name)
{
    const size_t i = ws_ckpt_lookup(c, name);
    return i == SIZE_MAX ? NULL : &c->records[i].t;
}

size_t ws_ckpt_file_count(const ws_ckpt *c)
{
    return c->n_files;
}

const ws_ckpt_file *ws_ckpt_file_at(const ws_ckpt *c, size_t i)
{
    return &c->files[i];
}

size_t ws_ckpt_meta_count(const ws_ckpt *c)
{
    return c->n_meta;
}

void ws_ckpt_meta_at(const ws_ckpt *c, size_t i, const char **key, const char **value)
{
    *key = c->meta[i].key;
    *value = c->meta[i].value;
}

const char *ws_ckpt_meta(const ws_ckpt *c, const char *key)
{
    const ws_meta want = { key, NULL };
    const ws_meta *m = c->n_meta == 0 ? NULL
                                      : bsearch(&want, c->meta, c->n_meta,
                                                sizeof *c->meta, compare_meta);
    return m == NULL ? NULL : m->value;
}

const char *ws_ckpt_config(const ws_ckpt *c, size_t *len)
{
    if (c->config != NULL && len != NULL)
        *len = c->config_len;
    return c->config;
}

ws_status ws_ckpt_read(const ws_ckpt *c, const ws_tensor *t, uint64_t offset,
                       size_t len, void *dst, ws_err *err)
{
    if (offset > t->n_bytes || len > t->n_bytes - offset) {
        ws_fail(err, WS_E_INTERNAL, "read past the end of a tensor");
        return ws_err_at(err, c->path, t->name, -1), WS_E_INTERNAL;
    }
    if (len == 0)
        return WS_OK;
    const ws_status st =
        c->ops != NULL
            ? c->ops->read(c, t, offset, len, dst, err)
            : ws_ckpt_file_read(c, t->file, t->offset + offset, len, dst, err);
    if (st != WS_OK)
        ws_err_at(err, c->path, t->name, -1);
    return st;
}
