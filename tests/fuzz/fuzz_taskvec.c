/*
 * fuzz_taskvec.c - task vectors: the codes of their sparse lists, and whole files
 *
 * The first byte chooses: 0 gaps, 1 a bit map, else a file. Codes that are accepted are
 * what encoding their indexes gives. Files that are accepted give the same numbers for
 * whole blocks and for parts of them, and go on a base of zeros.
 */
#include <string.h>

#include "ckpt/ckpt_internal.h"
#include "fuzz.h"
#include "hf/taskvec_source.h"

enum { BLOCKS_READ = 16 };

static uint32_t index_list[WS_TV_BLOCK];
static uint8_t code[4 * WS_TV_BLOCK];

static size_t take_u16(const uint8_t **data, size_t *size)
{
    if (*size < 2)
        return 0;
    const size_t v = (size_t)(*data)[0] | (size_t)(*data)[1] << 8;
    *data += 2;
    *size -= 2;
    return v;
}

static void check_ascending(size_t n, size_t limit)
{
    for (size_t i = 0; i < n; i++)
        MUST(index_list[i] < limit && (i == 0 || index_list[i] > index_list[i - 1]));
}

static void fuzz_gaps(const uint8_t *data, size_t size)
{
    const size_t limit = take_u16(&data, &size) % WS_TV_BLOCK + 1;
    const size_t n = take_u16(&data, &size) % (limit + 1);
    if (!ws_tv_gaps_decode(data, size, limit, index_list, n))
        return;
    check_ascending(n, limit);
    MUST(ws_tv_gaps_size(index_list, n) == size && size <= sizeof code);
    MUST(ws_tv_gaps_encode(index_list, n, code) == size);
    MUST(memcmp(code, data, size) == 0);
}

static void fuzz_map(const uint8_t *data, size_t size)
{
    const size_t limit = take_u16(&data, &size) % WS_TV_BLOCK + 1;
    const size_t n = take_u16(&data, &size) % (limit + 1);
    if (size < (limit + 7) / 8 || !ws_tv_map_decode(data, limit, index_list, n))
        return;
    check_ascending(n, limit);
    ws_tv_map_encode(index_list, n, limit, code);
    MUST(memcmp(code, data, (limit + 7) / 8) == 0);
}

/** One block, whole and in two parts. */
static void check_block(const ws_taskvec *tv, const ws_tv_tensor *t, uint64_t b,
                        ws_tv_buffer *buf)
{
    static double whole[WS_TV_BLOCK], parts[WS_TV_BLOCK];
    const size_t real = t->wide ? 8 : 4;
    uint64_t first;
    size_t n, exact, count;
    ws_tv_block_at(&t->blocks, b, &first, &n);
    const ws_status st = ws_taskvec_update(tv, t, b, 0, n, whole, &count, buf, NULL);
    const size_t cut = n / 3;
    const ws_status sa = ws_taskvec_update(tv, t, b, 0, cut, parts, NULL, buf, NULL);
    const ws_status sb = ws_taskvec_update(tv, t, b, cut, n, (char *)parts + cut * real,
                                           NULL, buf, NULL);
    MUST(st == WS_OK || st == WS_E_HEADER);
    MUST(sa == st && sb == st);
    MUST(st != WS_OK || (count <= n && memcmp(whole, parts, n * real) == 0));
    const ws_status se = ws_taskvec_exact(tv, t, b, &exact, buf, NULL);
    MUST(se == WS_OK || se == WS_E_HEADER);
    MUST(se != WS_OK || exact <= n);
}

static ws_status zeros_read(const ws_ckpt *c, const ws_tensor *t, uint64_t offset,
                            size_t len, void *dst, ws_err *err)
{
    (void)c;
    (void)t;
    (void)offset;
    (void)err;
    memset(dst, 0, len);
    return WS_OK;
}

/** A base of zeros that suits the vector, but for tensors stored whole. */
static ws_ckpt *zeros_make(const ws_taskvec *tv)
{
    static const ws_ckpt_ops ops = { .read = zeros_read };
    ws_ckpt *c = NULL;
    MUST(ws_ckpt_new(&c, "zeros", "zeros", &ops, NULL, NULL) == WS_OK);
    for (size_t i = 0; i < tv->n; i++) {
        ws_tensor t = tv->tensors[i].t;
        t.file = WS_NO_FILE;
        t.offset = i;
        if (tv->tensors[i].kind != WS_TV_KIND_WHOLE)
            MUST(ws_ckpt_add_tensor(c, &t, 0, NULL) == WS_OK);
    }
    MUST(ws_ckpt_finish(c, NULL) == WS_OK);
    return c;
}

/** Read the ends of what the vector makes of the base. */
static void check_source(ws_taskvec *tv)
{
    ws_ckpt *base = zeros_make(tv), *source = NULL;
    if (ws_taskvec_source(&source, base, &tv, 1, 1.0, true, NULL) != WS_OK) {
        ws_taskvec_free(tv);
        ws_ckpt_free(base);
        return;
    }
    for (size_t i = 0; i < ws_ckpt_count(source); i++) {
        const ws_tensor *t = ws_ckpt_tensor(source, i);
        uint8_t bytes[64];
        const size_t n = t->n_bytes < sizeof bytes ? (size_t)t->n_bytes : sizeof bytes;
        const ws_status st = ws_ckpt_read(source, t, t->n_bytes - n, n, bytes, NULL);
        MUST(st == WS_OK || st == WS_E_HEADER);
    }
    ws_ckpt_free(source);
    ws_ckpt_free(base);
}

static void fuzz_file(const uint8_t *data, size_t size)
{
    ws_ckpt *c = NULL;
    ws_taskvec *tv = NULL;
    ws_err err = WS_ERR_INIT;
    if (ws_st_open_memory(&c, data, size, NULL, NULL) != WS_OK)
        return;
    const ws_status st = ws_taskvec_from(&tv, c, &err);
    if (st != WS_OK) {
        MUST(st == WS_E_HEADER || st == WS_E_UNSUPPORTED || st == WS_E_USAGE);
        MUST(err.code == st && err.msg[0] != '\0');
        ws_ckpt_free(c);
        return;
    }
    ws_tv_buffer *buf = malloc(sizeof *buf);
    MUST(buf != NULL);
    for (size_t i = 0; i < tv->n; i++) {
        const ws_tv_tensor *t = &tv->tensors[i];
        MUST(ws_taskvec_find(tv, t->t.name) == t);
        const uint64_t n = t->kind == WS_TV_KIND_UPDATE ? t->blocks.n_blocks : 0;
        for (uint64_t b = 0; b < n && b < BLOCKS_READ; b++)
            check_block(tv, t, b, buf);
        if (n > BLOCKS_READ)
            check_block(tv, t, n - 1, buf);
    }
    free(buf);
    check_source(tv);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const long live = ws_alloc_live();
    if (size == 0)
        return 0;
    if (data[0] == 0)
        fuzz_gaps(data + 1, size - 1);
    else if (data[0] == 1)
        fuzz_map(data + 1, size - 1);
    else
        fuzz_file(data + 1, size - 1);
    MUST(ws_alloc_live() == live);
    return 0;
}
