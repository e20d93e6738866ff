/*
 * taskvec_file.c - an opened task vector, checked as any hostile file
 */
#include "hf/taskvec_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "ckpt/manifest_internal.h"
#include "wsurg/text.h"

enum { JSON_MOST = 16 << 20, FILES_MOST = 10000 };

static ws_status bad(const ws_taskvec *tv, const char *tensor, ws_err *err,
                     const char *what)
{
    ws_fail(err, WS_E_HEADER, "not a valid task vector: %s", what);
    ws_err_at(err, ws_ckpt_path(tv->file), tensor, -1);
    return WS_E_HEADER;
}

static ws_status no_memory(ws_err *err)
{
    return ws_fail(err, WS_E_MEMORY, "no memory for a task vector");
}

/* ---- metadata ---- */

static const char *keep(ws_taskvec *tv, const cJSON *item)
{
    return cJSON_IsString(item) ? ws_arena_strdup(&tv->arena, item->valuestring) : NULL;
}

static const cJSON *get(const cJSON *tree, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(tree, key);
}

static bool digest_valid(const char *s)
{
    static const char prefix[] = "xxh3-128:";
    const size_t n = sizeof prefix - 1;
    return s != NULL && strncmp(s, prefix, n) == 0 && strlen(s) == n + 32 &&
           strspn(s + n, "0123456789abcdef") == 32;
}

/** Everything but the tensors. */
static ws_status read_facts(ws_taskvec *tv, const cJSON *tree, ws_err *err)
{
    const cJSON *schema = get(tree, "schema"), *meta = get(tree, "metadata");
    const cJSON *removed = get(tree, "removed"), *item;
    if (!cJSON_IsString(schema) || strcmp(schema->valuestring, WS_TV_SCHEMA) != 0) {
        ws_fail(err, WS_E_UNSUPPORTED, "task vector of an unknown schema, not '%s'",
                WS_TV_SCHEMA);
        ws_err_at(err, ws_ckpt_path(tv->file), NULL, -1);
        return WS_E_UNSUPPORTED;
    }
    tv->base = keep(tv, get(tree, "base"));
    tv->model = keep(tv, get(tree, "model"));
    tv->sparsified = keep(tv, get(tree, "sparsified"));
    tv->exact = cJSON_IsTrue(get(tree, "exact"));
    if (!digest_valid(tv->base))
        return bad(tv, NULL, err, "its base has no content digest");
    tv->has_meta = cJSON_IsObject(meta);
    tv->meta = ws_arena_calloc(&tv->arena, (size_t)cJSON_GetArraySize(meta) + 1,
                               sizeof *tv->meta);
    tv->removed = ws_arena_calloc(&tv->arena, (size_t)cJSON_GetArraySize(removed) + 1,
                                  sizeof *tv->removed);
    if (tv->meta == NULL || tv->removed == NULL)
        return no_memory(err);
    cJSON_ArrayForEach(item, meta)
    {
        ws_meta *m = &tv->meta[tv->n_meta++];
        m->key = ws_arena_strdup(&tv->arena, item->string);
        m->value = keep(tv, item);
        if (m->key == NULL || m->value == NULL)
            return bad(tv, NULL, err, "the model's metadata are not texts");
    }
    cJSON_ArrayForEach(item, removed)
    {
        const char *name = keep(tv, item);
        if (name == NULL)
            return bad(tv, NULL, err, "a removed tensor has no name");
        tv->removed[tv->n_removed++] = name;
    }
    return WS_OK;
}

/** Names of shards: plain, and each another. */
static ws_status read_files(ws_taskvec *tv, const cJSON *list, ws_err *err)
{
    const cJSON *item;
    const size_t n = (size_t)cJSON_GetArraySize(list);
    if (list == NULL)
        return WS_OK;
    if (!cJSON_IsArray(list) || n < 2 || n > FILES_MOST)
        return bad(tv, NULL, err, "its list of files is malformed");
    tv->files = ws_arena_calloc(&tv->arena, n, sizeof *tv->files);
    if (tv->files == NULL)
        return no_memory(err);
    cJSON_ArrayForEach(item, list)
    {
        const char *name = keep(tv, item);
        bool fine = name != NULL && ws_path_is_safe(name) && strchr(name, '/') == NULL;
        for (size_t i = 0; fine && i < tv->n_files; i++)
            fine = strcmp(tv->files[i], name) != 0;
        if (!fine)
            return bad(tv, NULL, err, "a file's name is unsafe or listed twice");
        tv->files[tv->n_files++] = name;
    }
    return WS_OK;
}

static bool parse_kind(const cJSON *item, ws_tv_kind *kind)
{
    static const char *const words[] = { "same", "delta", "whole" };
    for (int i = 0; cJSON_IsString(item) && i < 3; i++)
        if (strcmp(item->valuestring, words[i]) == 0) {
            *kind = (ws_tv_kind)i;
            return true;
        }
    return false;
}

/** One of "tensors": [name, dtype, shape, kind]. */
static ws_status read_tensor(ws_taskvec *tv, const cJSON *row, ws_tv_tensor *out,
                             ws_err *err)
{
    const cJSON *name = cJSON_GetArrayItem(row, 0), *dtype = cJSON_GetArrayItem(row, 1);
    const cJSON *shape = cJSON_GetArrayItem(row, 2), *item;
    const int rank = cJSON_GetArraySize(shape);
    *out = (ws_tv_tensor){ .t.rank = rank };
    if (!cJSON_IsArray(row) || !cJSON_IsString(name) || !cJSON_IsString(dtype) ||
        !cJSON_IsArray(shape) || rank > WS_MAX_RANK ||
        !ws_dtype_parse(dtype->valuestring, strlen(dtype->valuestring),
                        &out->t.dtype) ||
        !parse_kind(cJSON_GetArrayItem(row, 3), &out->kind))
        return bad(tv, NULL, err, "its list of tensors is malformed");
    uint64_t *dims = ws_arena_calloc(&tv->arena, (size_t)rank + 1, sizeof *dims);
    out->t.name = keep(tv, name);
    if (dims == NULL || out->t.name == NULL)
        return no_memory(err);
    int d = 0;
    cJSON_ArrayForEach(item, shape)
    {
        if (!ws_json_u64(item, &dims[d++]))
            return bad(tv, out->t.name, err, "a dimension is no whole number");
    }
    out->t.shape = dims;
    out->t.file = UINT32_MAX;
    uint64_t bits = ws_dtype_info(out->t.dtype)->bits;
    bool fits = true, empty = false;
    for (d = 0; d < rank; d++) {
        empty |= dims[d] == 0;
        fits = fits && (dims[d] == 0 || ws_mul_u64(bits, dims[d], &bits));
    }
    if (!fits || (!empty && bits % 8 != 0))
        return bad(tv, out->t.name, err, "its shape overflows or is no whole bytes");
    out->t.n_elements = empty ? 0 : bits / ws_dtype_info(out->t.dtype)->bits;
    out->t.n_bytes = empty ? 0 : bits / 8;
    return WS_OK;
}

/* ---- stored tensors ---- */

static const ws_tensor *stored(const ws_taskvec *tv, ws_tv_role role, const char *name)
{
    char full[WS_TV_PREFIX_MOST + WS_MAX_NAME + 1];
    const int n = snprintf(full, sizeof full, "%s%s", ws_tv_prefix(role), name);
    return n > 0 && (size_t)n < sizeof full ? ws_ckpt_find(tv->file, full) : NULL;
}

static bool same_shape(const ws_tensor *a, const ws_tensor *b)
{
    return a->rank == b->rank &&
           memcmp(a->shape, b->shape, (size_t)a->rank * sizeof *a->shape) == 0;
}

static bool is_list(const ws_tensor *t, ws_dtype dtype)
{
    return t == NULL || (t->rank == 1 && t->dtype == dtype);
}

/** The dtype of exact bits for elements of @p bits. */
static ws_dtype bits_dtype(unsigned bits)
{
    return bits == 64   ? WS_DT_U64
           : bits == 32 ? WS_DT_U32
           : bits == 16 ? WS_DT_U16
                        : WS_DT_U8;
}

/** Row @p row of the table. */
static ws_status table_row(const ws_taskvec *tv, const ws_tv_tensor *t, uint64_t row,
                           uint64_t n_rows, uint64_t out[][WS_TV_COLUMNS], ws_err *err)
{
    const size_t bytes = WS_TV_COLUMNS * sizeof(uint64_t);
    return ws_ckpt_read(tv->file, t->stored[WS_TV_TABLE], row * bytes,
                        (size_t)n_rows * bytes, out, err); // little-endian, as we are
}

/** The table's first row is zero, its last one says how long the lists are. */
static ws_status check_table(const ws_taskvec *tv, const ws_tv_tensor *t, ws_err *err)
{
    const ws_tensor *table = t->stored[WS_TV_TABLE], *index = t->stored[WS_TV_INDEX];
    const ws_tensor *side = t->stored[WS_TV_SIDE];
    const bool sparse = index != NULL || t->stored[WS_TV_MAP] != NULL;
    if (table == NULL)
        return sparse || side != NULL ? bad(tv, t->t.name, err,
                                            "a sparse update or exact entries without "
                                            "a table")
                                      : WS_OK;
    if (table->dtype != WS_DT_U64 || table->rank != 2 ||
        table->shape[0] != t->blocks.n_blocks + 1 || table->shape[1] != WS_TV_COLUMNS)
        return bad(tv, t->t.name, err, "its table has another shape");
    uint64_t first[1][WS_TV_COLUMNS], last[1][WS_TV_COLUMNS];
    ws_status st = table_row(tv, t, 0, 1, first, err);
    if (st == WS_OK)
        st = table_row(tv, t, t->blocks.n_blocks, 1, last, err);
    if (st != WS_OK)
        return st;
    const uint64_t want[WS_TV_COLUMNS] = {
        sparse ? t->stored[WS_TV_DELTA]->n_elements : 0,
        index != NULL ? index->n_bytes : 0,
        side != NULL ? t->stored[WS_TV_BITS]->n_elements : 0,
        side != NULL ? side->n_bytes : 0,
    };
    for (int c = 0; c < WS_TV_COLUMNS; c++)
        if (first[0][c] != 0 || last[0][c] != want[c])
            return bad(tv, t->t.name, err, "its table does not add up");
    return WS_OK;
}

/** The stored tensors of an update fit each other and the model's tensor. */
static ws_status check_update(const ws_taskvec *tv, ws_tv_tensor *t, ws_err *err)
{
    const ws_tensor *delta = t->stored[WS_TV_DELTA], *map = t->stored[WS_TV_MAP];
    const ws_tensor *index = t->stored[WS_TV_INDEX], *side = t->stored[WS_TV_SIDE];
    const ws_tensor *bits = t->stored[WS_TV_BITS];
    const ws_dtype_traits *dtype = ws_dtype_info(t->t.dtype);
    if (!dtype->arithmetic)
        return bad(tv, t->t.name, err, "an update of a dtype without arithmetic");
    if (delta == NULL || (delta->dtype != WS_DT_F32 && delta->dtype != WS_DT_F64))
        return bad(tv, t->t.name, err, "its update is not there in F32 or F64");
    t->wide = delta->dtype == WS_DT_F64;
    const bool sparse = map != NULL || index != NULL;
    if ((map != NULL && index != NULL) || (side != NULL) != (bits != NULL) ||
        !is_list(map, WS_DT_U8) || !is_list(index, WS_DT_U8) ||
        !is_list(side, WS_DT_U8) || !is_list(bits, bits_dtype(dtype->bits)) ||
        (sparse ? delta->rank != 1 : !same_shape(delta, &t->t)))
        return bad(tv, t->t.name, err, "its parts do not fit together");
    t->blocks = ws_tv_blocks_of(t->t.rank, t->t.shape, t->t.n_elements);
    if (map != NULL && map->n_bytes != ws_tv_map_offset(&t->blocks, t->blocks.n_blocks))
        return bad(tv, t->t.name, err, "its map has another length");
    return check_table(tv, t, err);
}

static ws_status check_tensor(const ws_taskvec *tv, ws_tv_tensor *t, size_t *n_stored,
                              ws_err *err)
{
    size_t n = 0;
    for (int r = 0; r < WS_TV_ROLES; r++) {
        t->stored[r] = stored(tv, (ws_tv_role)r, t->t.name);
        n += t->stored[r] != NULL;
    }
    *n_stored += n;
    const ws_tensor *whole = t->stored[WS_TV_WHOLE];
    switch (t->kind) {
    case WS_TV_KIND_SAME:
        return n == 0 ? WS_OK
                      : bad(tv, t->t.name, err,
                            "data for a tensor that is the "
                            "base's");
    case WS_TV_KIND_WHOLE:
        return n == 1 && whole != NULL && whole->dtype == t->t.dtype &&
                       same_shape(whole, &t->t)
                   ? WS_OK
                   : bad(tv, t->t.name, err, "a whole tensor is not there as listed");
    case WS_TV_KIND_UPDATE:
        break;
    }
    return whole == NULL ? check_update(tv, t, err)
                         : bad(tv, t->t.name, err, "its parts do not fit together");
}

/* ---- names ---- */

/** Sort by_name with a heap: qsort has no place for the tensors. */
static void sift(ws_taskvec *tv, size_t root, size_t n)
{
    size_t *idx = tv->by_name;
    for (size_t child; (child = 2 * root + 1) < n; root = child) {
        if (child + 1 < n && strcmp(tv->tensors[idx[child]].t.name,
                                    tv->tensors[idx[child + 1]].t.name) < 0)
            child++;
        if (strcmp(tv->tensors[idx[root]].t.name, tv->tensors[idx[child]].t.name) >= 0)
            return;
        const size_t tmp = idx[root];
        idx[root] = idx[child];
        idx[child] = tmp;
    }
}

static void sort_names(ws_taskvec *tv)
{
    for (size_t i = 0; i < tv->n; i++)
        tv->by_name[i] = i;
    for (size_t i = tv->n / 2; i-- > 0;)
        sift(tv, i, tv->n);
    for (size_t end = tv->n; end-- > 1;) {
        const size_t tmp = tv->by_name[0];
        tv->by_name[0] = tv->by_name[end];
        tv->by_name[end] = tmp;
        sift(tv, 0, end);
    }
}

const ws_tv_tensor *ws_taskvec_find(const ws_taskvec *tv, const char *name)
{
    size_t lo = 0, hi = tv->n;
    while (lo < hi) {
        const size_t mid = lo + (hi - lo) / 2;
        const ws_tv_tensor *t = &tv->tensors[tv->by_name[mid]];
        const int by = strcmp(name, t->t.name);
        if (by == 0)
            return t;
        if (by < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return NULL;
}

bool ws_taskvec_removes(const ws_taskvec *tv, const char *name)
{
    for (size_t i = 0; i < tv->n_removed; i++)
        if (strcmp(tv->removed[i], name) == 0)
            return true;
    return false;
}

/* ---- opening ---- */

static ws_status read_tensors(ws_taskvec *tv, const cJSON *tree, ws_err *err)
{
    const cJSON *list = get(tree, "tensors"), *row;
    const size_t n = (size_t)cJSON_GetArraySize(list);
    size_t n_stored = ws_ckpt_find(tv->file, WS_TV_HEADER) != NULL;
    tv->tensors = ws_arena_calloc(&tv->arena, n + 1, sizeof *tv->tensors);
    tv->by_name = ws_arena_calloc(&tv->arena, n + 1, sizeof *tv->by_name);
    if (tv->tensors == NULL || tv->by_name == NULL)
        return no_memory(err);
    cJSON_ArrayForEach(row, list)
    {
        ws_tv_tensor *t = &tv->tensors[tv->n];
        ws_status st = read_tensor(tv, row, t, err);
        if (st == WS_OK)
            st = check_tensor(tv, t, &n_stored, err);
        if (st != WS_OK)
            return st;
        tv->n++;
    }
    sort_names(tv);
    for (size_t i = 1; i < tv->n; i++)
        if (strcmp(tv->tensors[tv->by_name[i - 1]].t.name,
                   tv->tensors[tv->by_name[i]].t.name) == 0)
            return bad(tv, tv->tensors[tv->by_name[i]].t.name, err,
                       "the tensor is listed twice");
    if (n_stored != ws_ckpt_count(tv->file))
        return bad(tv, NULL, err, "it holds tensors that it does not list");
    return WS_OK;
}

static ws_status not_taskvec(const ws_ckpt *file, ws_err *err)
{
    ws_fail(err, WS_E_USAGE, "not a task vector");
    ws_err_at(err, ws_ckpt_path(file), NULL, -1);
    ws_err_hint(err, "make one: wsurg taskvec extract BASE MODEL");
    return WS_E_USAGE;
}

ws_status ws_taskvec_from(ws_taskvec **out, ws_ckpt *file, ws_err *err)
{
    const char *text = ws_ckpt_meta(file, "wsurg.taskvec");
    if (ws_ckpt_kind_of(file) != WS_KIND_TASKVEC || text == NULL)
        return not_taskvec(file, err);
    ws_taskvec *tv = ws_calloc(1, sizeof *tv);
    cJSON *tree = NULL;
    if (tv == NULL)
        return no_memory(err);
    tv->file = file;
    const size_t len = strlen(text);
    ws_status st = len > JSON_MOST ? bad(tv, NULL, err, "its description is too long")
                                   : ws_json_parse(&tree, text, len, err);
    if (st == WS_OK)
        st = read_facts(tv, tree, err);
    if (st == WS_OK)
        st = read_files(tv, get(tree, "files"), err);
    if (st == WS_OK)
        st = read_tensors(tv, tree, err);
    cJSON_Delete(tree);
    if (st != WS_OK) {
        ws_err_at(err, ws_ckpt_path(file), NULL, -1);
        tv->file = NULL; // stays the caller's
        ws_taskvec_free(tv);
        return st;
    }
    *out = tv;
    return WS_OK;
}

ws_status ws_taskvec_load(ws_taskvec **out, const char *path, ws_diag *warnings,
                          ws_err *err)
{
    ws_ckpt *file = NULL;
    ws_status st = ws_ckpt_open(&file, path, warnings, err);
    if (st == WS_OK)
        st = ws_taskvec_from(out, file, err);
    if (st != WS_OK)
        ws_ckpt_free(file);
    return st;
}

void ws_taskvec_free(ws_taskvec *tv)
{
    if (tv == NULL)
        return;
    ws_ckpt_free(tv->file);
    ws_arena_free(&tv->arena);
    ws_free(tv);
}

/* ---- blocks ---- */

/** Where a list's part for a block begins, and how long it is: entries and bytes. */
struct part {
    uint64_t entry, byte;
    size_t n, bytes;
};

/** Part of columns @p c and c + 1, checked against the block and the lists' ends. */
static ws_status part_find(const ws_taskvec *tv, const ws_tv_tensor *t, uint64_t b,
                           int c, bool gaps, struct part *out, ws_err *err)
{
    uint64_t rows[2][WS_TV_COLUMNS], first;
    size_t n;
    const ws_tensor *entries = t->stored[c == 0 ? WS_TV_DELTA : WS_TV_BITS];
    const ws_tensor *bytes = t->stored[c == 0 ? WS_TV_INDEX : WS_TV_SIDE];
    const ws_status st = table_row(tv, t, b, 2, rows, err);
    if (st != WS_OK)
        return st;
    ws_tv_block_at(&t->blocks, b, &first, &n);
    const uint64_t most = bytes != NULL && gaps ? bytes->n_bytes : 0;
    if (rows[1][c] < rows[0][c] || rows[1][c] - rows[0][c] > n ||
        rows[1][c] > entries->n_elements || rows[1][c + 1] < rows[0][c + 1] ||
        rows[1][c + 1] - rows[0][c + 1] > 3 * n || rows[1][c + 1] > most)
        return bad(tv, t->t.name, err, "its table does not add up");
    *out = (struct part){ rows[0][c], rows[0][c + 1], (size_t)(rows[1][c] - rows[0][c]),
                          (size_t)(rows[1][c + 1] - rows[0][c + 1]) };
    return WS_OK;
}

/** The indexes of a sparse update's block into buf->index. */
static ws_status sparse_indexes(const ws_taskvec *tv, const ws_tv_tensor *t, uint64_t b,
                                const struct part *p, size_t n, ws_tv_buffer *buf,
                                ws_err *err)
{
    const ws_tensor *map = t->stored[WS_TV_MAP], *index = t->stored[WS_TV_INDEX];
    const ws_status st =
        map != NULL ? ws_ckpt_read(tv->file, map, ws_tv_map_offset(&t->blocks, b),
                                   (n + 7) / 8, buf->gaps, err)
                    : ws_ckpt_read(tv->file, index, p->byte, p->bytes, buf->gaps, err);
    if (st != WS_OK)
        return st;
    const bool ok = map != NULL
                        ? ws_tv_map_decode(buf->gaps, n, buf->index, p->n)
                        : ws_tv_gaps_decode(buf->gaps, p->bytes, n, buf->index, p->n);
    return ok ? WS_OK
              : bad(tv, t->t.name, err,
                    map != NULL ? "its map is not as its table says"
                                : "its gaps are malformed");
}

static size_t count_nonzero(const void *x, bool wide, size_t n)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++)
        count += wide ? ((const double *)x)[i] != 0.0 : ((const float *)x)[i] != 0.0f;
    return count;
}

/** Elements from .. to-1 of a sparse update. */
static ws_status sparse_update(const ws_taskvec *tv, const ws_tv_tensor *t, uint64_t b,
                               size_t from, size_t to, size_t n, void *out,
                               ws_tv_buffer *buf, ws_err *err)
{
    const size_t real = t->wide ? sizeof(double) : sizeof(float);
    struct part p = { 0, 0, 0, 0 };
    ws_status st = part_find(tv, t, b, 0, t->stored[WS_TV_INDEX] != NULL, &p, err);
    if (st == WS_OK)
        st = sparse_indexes(tv, t, b, &p, n, buf, err);
    if (st != WS_OK)
        return st;
    size_t lo = 0, hi = p.n;
    while (lo < hi && buf->index[lo] < from)
        lo++;
    while (hi > lo && buf->index[hi - 1] >= to)
        hi--;
    st = ws_ckpt_read(tv->file, t->stored[WS_TV_DELTA], (p.entry + lo) * real,
                      (hi - lo) * real, buf->values, err);
    if (st != WS_OK)
        return st;
    memset(out, 0, (to - from) * real);
    const float *narrow = (const float *)(const void *)buf->values;
    for (size_t i = lo; i < hi; i++)
        if (t->wide)
            ((double *)out)[buf->index[i] - from] = buf->values[i - lo];
        else
            ((float *)out)[buf->index[i] - from] = narrow[i - lo];
    return WS_OK;
}

ws_status ws_taskvec_update(const ws_taskvec *tv, const ws_tv_tensor *t, uint64_t b,
                            size_t from, size_t to, void *out, size_t *nonzero,
                            ws_tv_buffer *buf, ws_err *err)
{
    const size_t real = t->wide ? sizeof(double) : sizeof(float);
    const bool sparse = t->stored[WS_TV_MAP] != NULL || t->stored[WS_TV_INDEX] != NULL;
    uint64_t first;
    size_t n;
    ws_tv_block_at(&t->blocks, b, &first, &n);
    const ws_status st =
        sparse ? sparse_update(tv, t, b, from, to, n, out, buf, err)
               : ws_ckpt_read(tv->file, t->stored[WS_TV_DELTA], (first + from) * real,
                              (to - from) * real, out, err);
    if (st == WS_OK && nonzero != NULL)
        *nonzero = count_nonzero(out, t->wide, to - from);
    return st;
}

ws_status ws_taskvec_exact(const ws_taskvec *tv, const ws_tv_tensor *t, uint64_t b,
                           size_t *n, ws_tv_buffer *buf, ws_err *err)
{
    const size_t size = ws_dtype_info(t->t.dtype)->bits / 8;
    struct part p = { 0, 0, 0, 0 };
    uint64_t first;
    size_t limit;
    *n = 0;
    if (t->stored[WS_TV_SIDE] == NULL)
        return WS_OK;
    ws_status st = part_find(tv, t, b, 2, true, &p, err);
    if (st == WS_OK)
        st = ws_ckpt_read(tv->file, t->stored[WS_TV_SIDE], p.byte, p.bytes, buf->gaps,
                          err);
    if (st == WS_OK)
        st = ws_ckpt_read(tv->file, t->stored[WS_TV_BITS], p.entry * size, p.n * size,
                          buf->values, err);
    if (st != WS_OK)
        return st;
    ws_tv_block_at(&t->blocks, b, &first, &limit);
    if (!ws_tv_gaps_decode(buf->gaps, p.bytes, limit, buf->index, p.n))
        return bad(tv, t->t.name, err, "the gaps of its exact entries are malformed");
    *n = p.n;
    return WS_OK;
}

uint64_t ws_taskvec_exact_count(const ws_tv_tensor *t)
{
    return t->stored[WS_TV_BITS] == NULL ? 0 : t->stored[WS_TV_BITS]->n_elements;
}
