/*
 * gguf.h - GGUF files: types of tensors, names, reading
 */
#ifndef WS_CKPT_GGUF_H
#define WS_CKPT_GGUF_H

#include "ckpt/ckpt_internal.h"
#include "wsurg/text.h"

/** Most bytes of a tensor's name, its end not counted. */
#define WS_GGUF_NAME 63

/** A type of tensors. */
typedef struct ws_gguf_type {
    const char *name; /**< as in ggml */
    uint16_t block;   /**< elements of a block */
    uint16_t bytes;   /**< of a block */
    ws_dtype dtype;   /**< what it is read as */
    bool read;        /**< whether it is read here */
    /** Elements of one block; NULL: they are stored as .dtype. */
    void (*decode)(const unsigned char *block, float *out);
} ws_gguf_type;

/** The type of number @p id; NULL: unknown, or removed from the format. */
WS_API const ws_gguf_type *ws_gguf_type_at(uint64_t id);

/** Numbers of the types that are written. */
enum {
    WS_GGUF_F32 = 0,
    WS_GGUF_F16 = 1,
    WS_GGUF_Q8_0 = 8,
    WS_GGUF_I8 = 24,
    WS_GGUF_BF16 = 30
};

/** Bytes of a Q8_0 block, of 32 elements. */
#define WS_Q8_0_BYTES 34

/**
 * The reference's quantiser: scale = largest magnitude / 127, quotients rounded half
 * away from zero with the scale before it is rounded to F16 (formats.md 5.3).
 * @param x    (32) finite
 * @param out  (WS_Q8_0_BYTES)
 */
WS_API void ws_gguf_q8_0(const float *x, unsigned char *out);

/** How a tensor's numbers are laid out otherwise than in Hugging Face's files. */
typedef enum ws_gguf_layout {
    WS_GGUF_SAME,
    WS_GGUF_HEADS_Q,   /**< rows of each query head in turn from its two halves */
    WS_GGUF_HEADS_K,   /**< the same, key heads */
    WS_GGUF_TRANSPOSED /**< Conv1D's [in, out] as [out, in] */
} ws_gguf_layout;

/** Whether names of @p architecture are known here. */
WS_API bool ws_gguf_known(const char *architecture);

/** Tensors that are computed from the configuration: no model has them. */
WS_API bool ws_gguf_ignored(const char *name);

/**
 * Hugging Face's name of the GGUF tensor @p name.
 * @param out  (WS_GGUF_HF_NAME)
 * @return false when it has none here
 */
#define WS_GGUF_HF_NAME 192
WS_API bool ws_gguf_to_hf(const char *architecture, const char *name, char *out,
                          ws_gguf_layout *layout);

/** The way back; @p out holds WS_GGUF_NAME + 1. */
WS_API bool ws_gguf_from_hf(const char *architecture, const char *name, char *out,
                            ws_gguf_layout *layout);

/** The row of a GGUF file that holds row @p row of Hugging Face's, of @p heads heads
 * with @p d rows each. */
static inline uint64_t ws_gguf_row(uint64_t row, uint64_t d)
{
    const uint64_t head = row / d, k = row % d;
    return head * d + 2 * (k % (d / 2)) + k / (d / 2);
}

/** Value of metadata @p key of a checkpoint that may still be in the making; NULL. */
WS_API const char *ws_gguf_meta(const ws_ckpt *c, const char *key);

/** Add what file number @p file of @p c holds, and the other files of a split one,
 * where it is GGUF: *known says whether.
 * @return WS_OK; WS_E_HEADER; WS_E_UNSUPPORTED a type of tensors that is not read;
 * WS_E_MISSING a file of a split one; WS_E_IO; WS_E_MEMORY */
WS_API ws_status ws_gguf_load(ws_ckpt *c, uint32_t file, bool *known, ws_diag *warnings,
                              ws_err *err);

/** Where a tensor stands in its file. */
typedef struct ws_gguf_place {
    const ws_gguf_type *type;
    uint64_t at;        /**< first byte in the file */
    uint64_t row, rows; /**< elements of a row of the file, number of rows */
    uint64_t head;      /**< rows of a head whose rows stand in turn; 0: as they are */
    bool transposed;
    uint32_t file;
} ws_gguf_place;

/** Add @p t, which stands at @p p: its offset becomes its number. @p c has no other
 * ops than these. */
WS_API ws_status ws_gguf_add(ws_ckpt *c, const ws_tensor *t, const ws_gguf_place *p,
                             uint64_t at, ws_err *err);

#endif
