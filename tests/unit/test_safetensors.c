/*
 * test_safetensors.c - safetensors files: what is accepted, warned about, refused; what
 * comes out; files that change or are no files
 */
#include "ws_test.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../fuzz/st_vectors.h"
#include "ckpt/ckpt_internal.h"
#include "wsurg/text.h"

static char dir[64];

static int make_dir(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/wsurg-test-XXXXXX");
    return mkdtemp(dir) == NULL;
}

static int remove_dir(void **state)
{
    (void)state;
    return rmdir(dir);
}

/** dir/name, in one of four buffers. */
static const char *in_dir(const char *name)
{
    static char path[4][256];
    static int next;
    next = (next + 1) % 4;
    snprintf(path[next], sizeof path[next], "%s/%s", dir, name);
    return path[next];
}

static void put_file(const char *path, const void *data, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

/** A file of JSON and zero bytes of data. */
static unsigned char *image(const char *json, size_t n, size_t data, size_t *size)
{
    const struct st_vector v = {
        .bytes = json, .n = n, .length = LENGTH_TRUE, .data = data
    };
    unsigned char *p = malloc(st_vector_size(&v) + 1);
    assert_non_null(p);
    st_vector_make(&v, p);
    *size = st_vector_size(&v);
    return p;
}

/* ---- verdicts ---- */

static void check_verdict(const struct st_vector *v, ws_status st, const ws_err *err,
                          const ws_diag *warnings)
{
    if (st != v->verdict)
        fail_msg("%s: status %d, want %d: %s", v->name, st, v->verdict, err->msg);
    if (v->says != NULL && strstr(err->msg, v->says) == NULL)
        fail_msg("%s: says '%s', want '%s'", v->name, err->msg, v->says);
    if (v->hint != NULL && strstr(err->hint, v->hint) == NULL)
        fail_msg("%s: hint '%s', want '%s'", v->name, err->hint, v->hint);
    if (v->tensor != NULL && strcmp(err->tensor, v->tensor) != 0)
        fail_msg("%s: tensor '%s', want '%s'", v->name, err->tensor, v->tensor);
    if (v->offset >= 0 && err->offset != v->offset)
        fail_msg("%s: offset %lld, want %lld", v->name, (long long)err->offset,
                 (long long)v->offset);
    if (warnings->n != (v->warning != NULL))
        fail_msg("%s: %zu warnings", v->name, warnings->n);
    if (v->warning != NULL && strcmp(warnings->items[0].tag, v->warning) != 0)
        fail_msg("%s: warns of '%s', want '%s'", v->name, warnings->items[0].tag,
                 v->warning);
}

static void vectors_get_their_verdict_in_memory(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_ST_VECTORS; i++) {
        const struct st_vector *v = &st_vectors[i];
        const size_t n = st_vector_size(v);
        unsigned char *file = malloc(n > 0 ? n : 1); // exact, for the sanitizers
        ws_ckpt *c = NULL;
        ws_diag warnings = { 0 };
        ws_err err = WS_ERR_INIT;
        assert_non_null(file);
        st_vector_make(v, file);
        const ws_status st = ws_st_open_memory(&c, file, n, &warnings, &err);
        check_verdict(v, st, &err, &warnings);
        ws_ckpt_free(c);
        ws_diag_free(&warnings);
        free(file);
    }
}

static void vectors_get_their_verdict_as_files(void **state)
{
    (void)state;
    const char *path = in_dir("v.safetensors");
    for (size_t i = 0; i < N_ST_VECTORS; i++) {
        const struct st_vector *v = &st_vectors[i];
        const size_t n = st_vector_size(v);
        unsigned char *file = malloc(n + 1);
        ws_ckpt *c = NULL;
        ws_diag warnings = { 0 };
        ws_err err = WS_ERR_INIT;
        assert_non_null(file);
        st_vector_make(v, file);
        put_file(path, file, n);
        const ws_status st = ws_ckpt_open(&c, path, &warnings, &err);
        check_verdict(v, st, &err, &warnings);
        if (st != WS_OK)
            assert_string_equal(err.path, path);
        if (warnings.n > 0)
            assert_string_equal(warnings.items[0].path, path);
        ws_ckpt_free(c);
        ws_diag_free(&warnings);
        free(file);
    }
    unlink(path);
}

static void header_of_exactly_the_limit_is_read(void **state)
{
    (void)state;
    enum { LIMIT = 100000000 };
    unsigned char *p = malloc(8 + LIMIT + 1);
    ws_ckpt *c = NULL;
    ws_err err = WS_ERR_INIT;
    assert_non_null(p);
    memset(p, ' ', 8 + LIMIT + 1);
    for (int i = 0; i < 8; i++)
        p[i] = (unsigned char)((uint64_t)LIMIT >> (8 * i) & 0xFF);
    memcpy(p + 8, "{}", 2);
    assert_ok(ws_st_open_memory(&c, p, 8 + LIMIT, NULL, &err), err);
    ws_ckpt_free(c);
    p[0]++;
    assert_int_equal(ws_st_open_memory(&c, p, 8 + LIMIT + 1, NULL, &err), WS_E_HEADER);
    assert_string_equal(
        err.msg, "header length 100000001 is above the limit of 100000000 bytes");
    free(p);
}

/** Open JSON made of a head, a filler repeated, and a tail. */
static ws_status open_filled(const char *head, const char *filler, size_t times,
                             const char *tail, size_t data, ws_ckpt **c, ws_err *err)
{
    ws_buf b = { 0 };
    size_t size;
    ws_buf_puts(&b, head);
    for (size_t i = 0; i < times; i++)
        ws_buf_puts(&b, filler);
    ws_buf_puts(&b, tail);
    assert_false(b.failed);
    unsigned char *p = image(b.p, b.n, data, &size);
    *err = (ws_err)WS_ERR_INIT;
    const ws_status st = ws_st_open_memory(c, p, size, NULL, err);
    ws_buf_free(&b);
    free(p); // the header is not needed once parsed
    return st;
}

static void caps_on_names_rank_and_nesting_are_exact(void **state)
{
    (void)state;
    ws_ckpt *c = NULL;
    ws_err err;
    assert_ok(open_filled("{\"", "x", 4096, "\":{" T "}}", 4, &c, &err), err);
    assert_int_equal(strlen(ws_ckpt_tensor(c, 0)->name), 4096);
    ws_ckpt_free(c);
    assert_ok(open_filled("{\"", "\\u0078", 4096, "\":{" T "}}", 4, &c, &err), err);
    assert_int_equal(strlen(ws_ckpt_tensor(c, 0)->name), 4096);
    ws_ckpt_free(c);
    assert_int_equal(open_filled("{\"", "x", 4097, "\":{" T "}}", 4, &c, &err),
                     WS_E_HEADER);
    assert_string_equal(err.msg, "tensor name is longer than 4096 bytes");
    assert_int_equal(open_filled("{\"", "x", 100000, "\":{" T "}}", 4, &c, &err),
                     WS_E_HEADER);
    assert_string_equal(err.msg, "tensor name is longer than 4096 bytes");
    assert_int_equal(err.offset, 9);

    const char *rank = "{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,1],\"shape\":[";
    assert_ok(open_filled(rank, "1,", 63, "1]}}", 1, &c, &err), err);
    assert_int_equal(ws_ckpt_tensor(c, 0)->rank, 64);
    ws_ckpt_free(c);
    assert_int_equal(open_filled(rank, "1,", 100000, "1]}}", 1, &c, &err), WS_E_HEADER);
    assert_string_equal(err.msg, "shape has more than 64 dimensions");

    for (size_t depth = 100; depth <= 200; depth += 100) {
        assert_int_equal(open_filled("{\"a\":{\"x\":", "[", depth, "", 0, &c, &err),
                         WS_E_HEADER);
        assert_string_equal(err.msg, "header is nested deeper than 8 levels");
        assert_int_equal(
            open_filled("{\"a\":{\"x\":", "{\"y\":", depth, "", 0, &c, &err),
            WS_E_HEADER);
        assert_string_equal(err.msg, "header is nested deeper than 8 levels");
    }
}

static void oddities_warn_once_with_their_number(void **state)
{
    (void)state;
    ws_buf b = { 0 };
    size_t size;
    for (int i = 0; i < 1000; i++)
        ws_buf_printf(&b,
                      "%c\"t%d\":{\"dtype\":\"U8\",\"x\":%d,\"shape\":[0],"
                      "\"data_offsets\":[0,0]}",
                      i == 0 ? '{' : ',', i, i);
    ws_buf_putc(&b, '}');
    unsigned char *p = image(b.p, b.n, 0, &size);
    ws_ckpt *c = NULL;
    ws_diag warnings = { 0 };
    ws_err err = WS_ERR_INIT;
    assert_ok(ws_st_open_memory(&c, p, size, &warnings, &err), err);
    assert_int_equal(warnings.n, 1);
    assert_string_equal(warnings.items[0].msg,
                        "unknown field of a tensor, ignored, first of 1000");
    assert_string_equal(warnings.items[0].tensor, "t0");
    assert_int_equal(warnings.items[0].offset, 8 + 20);
    ws_ckpt_free(c);
    ws_diag_free(&warnings);
    ws_buf_free(&b);
    free(p);
}

static void unfinished_download_is_called_so(void **state)
{
    (void)state;
    const char *path = in_dir("x.safetensors.incomplete");
    ws_ckpt *c = NULL;
    ws_err err = WS_ERR_INIT;
    put_file(path, "\x20\3\0\0\0\0\0\0{\"a\":", 13);
    assert_int_equal(ws_ckpt_open(&c, path, NULL, &err), WS_E_HEADER);
    assert_string_equal(err.msg, "file is a download that has not finished");
    unlink(path);
}

/* ---- what comes out ---- */

static const char sample[] =
    "{\"__metadata__\":{\"z\":\"last\",\"format\":\"pt\",\"wsurg.kind\":\"mask\"},"
    "\"w\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},"
    "\"\\u00e9\":{\"dtype\":\"BF16\",\"shape\":[],\"data_offsets\":[24,26]},"
    "\"none\":{\"dtype\":\"U8\",\"shape\":[0,7],\"data_offsets\":[24,24]},"
    "\"b\":{\"dtype\":\"F4\",\"shape\":[4],\"data_offsets\":[26,28]}}";

/** Write the sample with data bytes 0, 1, 2, ... */
static void put_sample(const char *path)
{
    size_t size;
    unsigned char *p = image(sample, sizeof sample - 1, 28, &size);
    for (unsigned char i = 0; i < 28; i++)
        p[size - 28 + i] = i;
    put_file(path, p, size);
    free(p);
}

static void tensors_come_in_file_order_with_their_facts(void **state)
{
    (void)state;
    const char *path = in_dir("sample.v1.safetensors");
    ws_ckpt *c = NULL;
    ws_err err = WS_ERR_INIT;
    put_sample(path);
    assert_ok(ws_ckpt_open(&c, path, NULL, &err), err);
    static const struct {
        const char *name;
        ws_dtype dtype;
        int rank;
        uint64_t elements, bytes, offset;
    } want[] = {
        { "w", WS_DT_F32, 2, 6, 24, 0 },
        { "none", WS_DT_U8, 2, 0, 0, 24 },
        { "\xC3\xA9", WS_DT_BF16, 0, 1, 2, 24 },
        { "b", WS_DT_F4, 1, 4, 2, 26 },
    };
    assert_int_equal(ws_ckpt_count(c), 4);
    for (size_t i = 0; i < 4; i++) {
        const ws_tensor *t = ws_ckpt_tensor(c, i);
        assert_string_equal(t->name, want[i].name);
        assert_int_equal(t->dtype, want[i].dtype);
        assert_int_equal(t->rank, want[i].rank);
        assert_int_equal(t->n_elements, want[i].elements);
        assert_int_equal(t->n_bytes, want[i].bytes);
        assert_int_equal(t->offset, 8 + sizeof sample - 1 + want[i].offset);
        assert_int_equal(t->file, 0);
        assert_ptr_equal(ws_ckpt_find(c, want[i].name), t);
    }
    assert_int_equal(ws_ckpt_tensor(c, 0)->shape[1], 3);
    assert_null(ws_ckpt_find(c, "nothing"));
    assert_null(ws_ckpt_find(c, ""));
    assert_string_equal(ws_ckpt_path(c), path);
    assert_string_equal(ws_ckpt_label(c), "sample.v1");
    assert_string_equal(ws_ckpt_format(c), "safetensors");
    assert_false(ws_ckpt_is_dir(c));
    assert_int_equal(ws_ckpt_file_count(c), 1);
    assert_string_equal(ws_ckpt_file_at(c, 0)->name, "sample.v1.safetensors");
    assert_string_equal(ws_ckpt_file_at(c, 0)->path, path);
    assert_int_equal(ws_ckpt_file_at(c, 0)->bytes, 8 + sizeof sample - 1 + 28);
    size_t len = 7;
    assert_null(ws_ckpt_config(c, &len));
    ws_ckpt_free(c);
    unlink(path);
}

static void metadata_comes_sorted_and_tells_the_kind(void **state)
{
    (void)state;
    const char *path = in_dir("m.safetensors"), *key, *value;
    ws_ckpt *c = NULL;
    ws_err err = WS_ERR_INIT;
    put_sample(path);
    assert_ok(ws_ckpt_open(&c, path, NULL, &err), err);
    assert_int_equal(ws_ckpt_meta_count(c), 3);
    ws_ckpt_meta_at(c, 0, &key, &value);
    assert_string_equal(key, "format");
    assert_string_equal(value, "pt");
    ws_ckpt_meta_at(c, 2, &key, &value);
    assert_string_equal(key, "z");
    assert_string_equal(ws_ckpt_meta(c, "z"), "last");
    assert_null(ws_ckpt_meta(c, "zz"));
    assert_int_equal(ws_ckpt_kind_of(c), WS_KIND_MASK);
    ws_ckpt_free(c);
    unlink(path);
}

static void bytes_are_read_from_any_place(void **state)
{
    (void)state;
    const char *path = in_dir("r.safetensors");
    ws_ckpt *c = NULL;
    ws_err err = WS_ERR_INIT;
    unsigned char got[24];
    put_sample(path);
    assert_ok(ws_ckpt_open(&c, path, NULL, &err), err);
    assert_ok(ws_ckpt_read(c, ws_ckpt_find(c, "w"), 0, 24, got, &err), err);
    for (int i = 0; i < 24; i++)
        assert_int_equal(got[i], i);
    assert_ok(ws_ckpt_read(c, ws_ckpt_find(c, "w"), 5, 3, got, &err), err);
    assert_memory_equal(got, "\5\6\7", 3);
    assert_ok(ws_ckpt_read(c, ws_ckpt_find(c, "\xC3\xA9"), 1, 1, got, &err), err);
    assert_int_equal(got[0], 25);
    assert_ok(ws_ckpt_read(c, ws_ckpt_find(c, "none"), 0, 0, got, &err), err);
    assert_int_equal(ws_ckpt_read(c, ws_ckpt_find(c, "w"), 20, 5, got, &err),
                     WS_E_INTERNAL);
    assert_int_equal(ws_ckpt_read(c, ws_ckpt_find(c, "w"), UINT64_MAX, 2, got, &err),
                     WS_E_INTERNAL);
    ws_ckpt_free(c);
    unlink(path);
}

static void names_with_escapes_are_found_unescaped(void **state)
{
    (void)state;
    static const char json[] =
        "{\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\u20AC\\ud83d\\ude00\":{" T "}}";
    size_t size;
    unsigned char *p = image(json, sizeof json - 1, 4, &size);
    ws_ckpt *c = NULL;
    ws_err err = WS_ERR_INIT;
    assert_ok(ws_st_open_memory(&c, p, size, NULL, &err), err);
    assert_non_null(
        ws_ckpt_find(c, "\"\\/\b\f\n\r\t\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80"));
    ws_ckpt_free(c);
    free(p);
}

static void labels_are_stems(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {
        { "a.safetensors", "a" }, { "b.st", "b" },    { "plain", "plain" },
        { ".hidden", ".hidden" }, { "x.y.z", "x.y" }, { ".h.st", ".h" },
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        const char *path = in_dir(pairs[i][0]);
        ws_ckpt *c = NULL;
        ws_err err = WS_ERR_INIT;
        put_sample(path);
        assert_ok(ws_ckpt_open(&c, path, NULL, &err), err);
        assert_string_equal(ws_ckpt_label(c), pairs[i][1]);
        ws_ckpt_free(c);
        unlink(path);
    }
}

static void what_is_accepted_is_written_and_read_alike(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_ST_VECTORS; i++) {
        const struct st_vector *v = &st_vectors[i];
        if (v->verdict != WS_OK)
            continue;
        const size_t n = st_vector_size(v);
        unsigned char *file = malloc(n);
        ws_ckpt *c = NULL, *again = NULL;
        ws_err err = WS_ERR_INIT;
        ws_tensor copy[32], *order[32];
        assert_non_null(file);
        st_vector_make(v, file);
        assert_ok(ws_st_open_memory(&c, file, n, NULL, &err), err);
        const size_t count = ws_ckpt_count(c);
        assert_true(count <= 32);
        for (size_t k = 0; k < count; k++) {
            copy[k] = *ws_ckpt_tensor(c, k);
            order[k] = &copy[k];
        }
        qsort(order, count, sizeof *order, ws_st_order);
        uint8_t *head = NULL;
        uint64_t len = 0;
        const ws_status st =
            ws_st_header(&head, &len, order, count, c->meta, c->n_meta, &err);
        if (ws_ckpt_find(c, "") != NULL) {
            assert_int_equal(st, WS_E_UNSUPPORTED); // read, but never written
        } else {
            assert_ok(st, err);
            unsigned char *out = calloc(1, len + v->data);
            assert_non_null(out);
            memcpy(out, head, len);
            assert_ok(ws_st_open_memory(&again, out, len + v->data, NULL, &err), err);
            assert_int_equal(ws_ckpt_count(again), count);
            for (size_t k = 0; k < count; k++) {
                const ws_tensor *t = ws_ckpt_find(again, copy[k].name);
                assert_non_null(t);
                assert_int_equal(t->dtype, copy[k].dtype);
                assert_int_equal(t->n_bytes, copy[k].n_bytes);
                assert_int_equal(t->offset, copy[k].offset);
            }
            ws_ckpt_free(again);
            free(out);
            ws_free(head);
        }
        ws_ckpt_free(c);
        free(file);
    }
}

static void many_tensors_open_in_linear_time(void **state)
{
    (void)state;
    enum { N = 200000 };
    ws_buf b = { 0 };
    size_t size;
    for (int i = 0; i < N; i++)
        ws_buf_printf(&b,
                      "%c\"layers.%d.w\":{\"dtype\":\"U8\",\"shape\":[1],"
                      "\"data_offsets\":[%d,%d]}",
                      i == 0 ? '{' : ',', i, N - 1 - i, N - i);
    ws_buf_putc(&b, '}');
    unsigned char *p = image(b.p, b.n, N, &size);
    ws_ckpt *c = NULL;
    ws_err err = WS_ERR_INIT;
    assert_ok(ws_st_open_memory(&c, p, size, NULL, &err), err);
    assert_int_equal(ws_ckpt_count(c), N);
    assert_string_equal(ws_ckpt_tensor(c, 0)->name, "layers.199999.w");
    for (int i = 0; i < N; i += 1009) {
        char name[32];
        snprintf(name, sizeof name, "layers.%d.w", i);
        assert_ptr_equal(ws_ckpt_find(c, name), ws_ckpt_tensor(c, (size_t)(N - 1 - i)));
    }
    ws_ckpt_free(c);
    ws_buf_free(&b);
    free(p);
}

/* ---- files ---- */

static void truncated_after_opening_is_an_io_error_with_its_place(void **state)
{
    (void)state;
    const char *path = in_dir("t.safetensors");
    ws_ckpt *c = NULL;
    ws_err err = WS_ERR_INIT;
    unsigned char got[24];
    put_sample(path);
    assert_ok(ws_ckpt_open(&c, path, NULL, &err), err);
    assert_ok(ws_ckpt_recheck(c, &err), err);
    assert_int_equal(truncate(path, 8 + sizeof sample - 1 + 10), 0);
    assert_int_equal(ws_ckpt_read(c, ws_ckpt_find(c, "w"), 8, 8, got, &err), WS_E_IO);
    assert_string_equal(err.msg,
                        "file ends early: it has become shorter while it was read");
    assert_string_equal(err.tensor, "w");
    assert_string_equal(err.path, path);
    assert_int_equal(err.offset, 8 + sizeof sample - 1 + 10);
    err = (ws_err)WS_ERR_INIT;
    assert_int_equal(ws_ckpt_recheck(c, &err), WS_E_IO);
    assert_string_equal(err.msg, "file has changed since it was opened");
    assert_string_equal(err.path, path);
    ws_ckpt_free(c);
    unlink(path);
}

static void replaced_file_is_noticed(void **state)
{
    (void)state;
    const char *path = in_dir("a.safetensors"), *other = in_dir("b.safetensors");
    ws_ckpt *c = NULL;
    ws_err err = WS_ERR_INIT;
    put_sample(path);
    assert_ok(ws_ckpt_open(&c, path, NULL, &err), err);
    put_sample(other);
    assert_int_equal(rename(other, path), 0);
    assert_int_equal(ws_ckpt_recheck(c, &err), WS_E_IO);
    unlink(path);
    assert_int_equal(ws_ckpt_recheck(c, &err), WS_E_IO);
    ws_ckpt_free(c);
}

static void links_are_followed_to_regular_files_only(void **state)
{
    (void)state;
    const char *path = in_dir("file.safetensors"), *link = in_dir("link.safetensors");
    const char *fifo = in_dir("fifo.safetensors");
    ws_ckpt *c = NULL;
    ws_err err = WS_ERR_INIT;
    put_sample(path);
    assert_int_equal(symlink(path, link), 0);
    assert_ok(ws_ckpt_open(&c, link, NULL, &err), err);
    assert_string_equal(ws_ckpt_label(c), "link");
    ws_ckpt_free(c);
    unlink(link);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    assert_int_equal(symlink(fifo, link), 0);
    assert_int_equal(ws_ckpt_open(&c, link, NULL, &err), WS_E_IO);
    assert_string_equal(err.msg, "not a regular file");
    unlink(link);
    unlink(fifo);
    unlink(path);
    err = (ws_err)WS_ERR_INIT;
    assert_int_equal(ws_ckpt_open(&c, path, NULL, &err), WS_E_IO);
    assert_string_equal(err.msg, "cannot open: No such file or directory");
    assert_string_equal(err.path, path);
}

static void every_failed_allocation_is_reported(void **state)
{
    (void)state;
    const char *path = in_dir("n.safetensors");
    put_sample(path);
    const long live = ws_alloc_live();
    ws_status st = WS_E_MEMORY;
    for (long n = 0; st != WS_OK; n++) {
        ws_ckpt *c = NULL;
        ws_err err = WS_ERR_INIT;
        ws_alloc_fail_after(n);
        st = ws_ckpt_open(&c, path, NULL, &err);
        ws_alloc_fail_after(-1);
        assert_int_equal(err.code, st);
        assert_true(st == WS_OK ? n > 5 : st == WS_E_MEMORY);
        ws_ckpt_free(c);
        assert_int_equal(ws_alloc_live(), live);
    }
    unlink(path);
}

/* ---- readers with computed tensors ---- */

struct ramp {
    int closed;
};

static ws_status ramp_read(const ws_ckpt *c, const ws_tensor *t, uint64_t offset,
                           size_t len, void *dst, ws_err *err)
{
    (void)c;
    (void)err;
    for (size_t i = 0; i < len; i++)
        ((unsigned char *)dst)[i] = (unsigned char)(t->offset * 16 + offset + i);
    return WS_OK;
}

static void ramp_close(void *self)
{
    ((struct ramp *)self)->closed++;
}

static const ws_ckpt_ops ramp_ops = { .read = ramp_read, .close = ramp_close };

static void builder_serves_computed_tensors(void **state)
{
    (void)state;
    struct ramp self = { 0 };
    ws_ckpt *c = NULL;
    ws_err err = WS_ERR_INIT;
    const uint64_t shape[] = { 4 };
    static const char *const names[] = { "z", "y", "x" };
    assert_ok(ws_ckpt_new(&c, "ramp.tv", "ramp", &ramp_ops, &self, &err), err);
    for (uint64_t i = 0; i < 3; i++) {
        ws_tensor t = { .name = names[i],
                        .dtype = WS_DT_U8,
                        .rank = 1,
                        .shape = shape,
                        .file = WS_NO_FILE,
                        .offset = i };
        assert_ok(ws_tensor_measure(&t, &err), err);
        assert_ok(ws_ckpt_add_tensor(c, &t, 0, &err), err);
    }
    assert_ok(ws_ckpt_add_meta(c, "wsurg.kind", "taskvec", &err), err);
    assert_ok(ws_ckpt_finish(c, &err), err);
    assert_int_equal(ws_ckpt_kind_of(c), WS_KIND_TASKVEC);
    assert_string_equal(ws_ckpt_label(c), "ramp");
    assert_string_equal(ws_ckpt_tensor(c, 0)->name, "z"); // by its key, not its name
    unsigned char got[2];
    assert_ok(ws_ckpt_read(c, ws_ckpt_find(c, "x"), 1, 2, got, &err), err);
    assert_memory_equal(got, "\x21\x22", 2);
    ws_ckpt_free(c);
    assert_int_equal(self.closed, 1);
}

static void builder_refuses_names_and_metadata_twice(void **state)
{
    (void)state;
    struct ramp self = { 0 };
    ws_ckpt *c = NULL;
    ws_err err = WS_ERR_INIT;
    const ws_tensor t = { .name = "a",
                          .dtype = WS_DT_U8,
                          .n_elements = 1,
                          .n_bytes = 1,
                          .file = WS_NO_FILE };
    assert_ok(ws_ckpt_new(&c, "x", "none", &ramp_ops, &self, &err), err);
    assert_ok(ws_ckpt_add_tensor(c, &t, 0, &err), err);
    assert_int_equal(ws_ckpt_add_tensor(c, &t, 0, &err), WS_E_HEADER);
    assert_ok(ws_ckpt_add_meta(c, "k", "1", &err), err);
    assert_ok(ws_ckpt_add_meta(c, "k", "1", &err), err);
    assert_int_equal(ws_ckpt_finish(c, &err), WS_E_HEADER);
    assert_string_equal(err.msg, "metadata key 'k' stands twice");
    ws_ckpt_free(c);
}

static void wrapped_files_are_rechecked_too(void **state)
{
    (void)state;
    const char *path = in_dir("inner.safetensors");
    ws_ckpt *inner = NULL, *outer = NULL;
    ws_err err = WS_ERR_INIT;
    put_sample(path);
    assert_ok(ws_ckpt_open(&inner, path, NULL, &err), err);
    assert_ok(ws_ckpt_new(&outer, path, "none", NULL, NULL, &err), err);
    assert_ok(ws_ckpt_borrow_files(outer, inner, &err), err);
    assert_ok(ws_ckpt_finish(outer, &err), err);
    assert_int_equal(ws_ckpt_file_count(outer), 1);
    assert_int_equal(ws_ckpt_file_at(outer, 0)->ino, ws_ckpt_file_at(inner, 0)->ino);
    ws_ckpt_free(inner);
    assert_ok(ws_ckpt_recheck(outer, &err), err);
    unlink(path);
    assert_int_equal(ws_ckpt_recheck(outer, &err), WS_E_IO);
    ws_ckpt_free(outer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors_get_their_verdict_in_memory),
        cmocka_unit_test(vectors_get_their_verdict_as_files),
        cmocka_unit_test(header_of_exactly_the_limit_is_read),
        cmocka_unit_test(caps_on_names_rank_and_nesting_are_exact),
        cmocka_unit_test(oddities_warn_once_with_their_number),
        cmocka_unit_test(unfinished_download_is_called_so),
        cmocka_unit_test(tensors_come_in_file_order_with_their_facts),
        cmocka_unit_test(metadata_comes_sorted_and_tells_the_kind),
        cmocka_unit_test(bytes_are_read_from_any_place),
        cmocka_unit_test(names_with_escapes_are_found_unescaped),
        cmocka_unit_test(labels_are_stems),
        cmocka_unit_test(what_is_accepted_is_written_and_read_alike),
        cmocka_unit_test(many_tensors_open_in_linear_time),
        cmocka_unit_test(truncated_after_opening_is_an_io_error_with_its_place),
        cmocka_unit_test(replaced_file_is_noticed),
        cmocka_unit_test(links_are_followed_to_regular_files_only),
        cmocka_unit_test(every_failed_allocation_is_reported),
        cmocka_unit_test(builder_serves_computed_tensors),
        cmocka_unit_test(builder_refuses_names_and_metadata_twice),
        cmocka_unit_test(wrapped_files_are_rechecked_too),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
