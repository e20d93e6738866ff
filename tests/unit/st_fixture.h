/*
 * st_fixture.h - safetensors files made in a test: in memory, or on disk
 */
#ifndef ST_FIXTURE_H
#define ST_FIXTURE_H

#include "ws_test.h"

#include "ckpt/ckpt_internal.h"

/** One tensor to be written; data is borrowed. */
typedef struct st_item {
    const char *name;
    ws_dtype dtype;
    int rank;
    uint64_t shape[4];
    const void *data;
} st_item;

/** The file of n items and their metadata; malloc'ed. Items may be in any order. */
static inline uint8_t *st_image(const st_item *items, size_t n, const ws_meta *meta,
                                size_t n_meta, size_t *size)
{
    ws_err err = WS_ERR_INIT;
    ws_tensor *t = calloc(n + 1, sizeof *t);
    ws_tensor **order = calloc(n + 1, sizeof *order);
    uint8_t *header = NULL;
    uint64_t len = 0, bytes = 0;
    assert_true(t != NULL && order != NULL);
    for (size_t i = 0; i < n; i++) {
        t[i] = (ws_tensor){ .name = items[i].name,
                            .dtype = items[i].dtype,
                            .rank = items[i].rank,
                            .shape = items[i].shape };
        assert_ok(ws_tensor_measure(&t[i], &err), err);
        t[i].file = (uint32_t)i; // which item, through the sort
        bytes += t[i].n_bytes;
        order[i] = &t[i];
    }
    qsort(order, n, sizeof *order, ws_st_order);
    assert_ok(ws_st_header(&header, &len, order, n, meta, n_meta, &err), err);
    uint8_t *image = malloc((size_t)(len + bytes) + 1);
    assert_non_null(image);
    memcpy(image, header, (size_t)len);
    for (size_t i = 0; i < n; i++)
        if (order[i]->n_bytes > 0)
            memcpy(image + order[i]->offset, items[order[i]->file].data,
                   (size_t)order[i]->n_bytes);
    *size = (size_t)(len + bytes);
    ws_free(header);
    free(order);
    free(t);
    return image;
}

/** A checkpoint in memory; free *image after it. */
static inline ws_ckpt *st_open(const st_item *items, size_t n, uint8_t **image)
{
    ws_err err = WS_ERR_INIT;
    ws_ckpt *c = NULL;
    size_t size;
    *image = st_image(items, n, NULL, 0, &size);
    assert_ok(ws_st_open_memory(&c, *image, size, NULL, &err), err);
    return c;
}

static inline void st_put(const char *path, const void *data, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

/** The bytes of a file; malloc'ed. */
static inline uint8_t *st_get(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    *n = (size_t)ftell(f);
    rewind(f);
    uint8_t *p = malloc(*n + 1);
    assert_non_null(p);
    assert_int_equal(fread(p, 1, *n, f), *n);
    fclose(f);
    return p;
}

/** Write n items to a file. */
static inline void st_write(const char *path, const st_item *items, size_t n,
                            const ws_meta *meta, size_t n_meta)
{
    size_t size;
    uint8_t *image = st_image(items, n, meta, n_meta, &size);
    st_put(path, image, size);
    free(image);
}

#endif
