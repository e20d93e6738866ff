/*
 * desc.h - what a transformer is: one descriptor for all families
 *
 * C hidden, H query heads, K kv heads, G = H / K, D head size, F MLP width, V
 * vocabulary, L layers. Built by config.c from config.json; everything below it reads
 * these values and asks no family's name.
 */
#ifndef WS_MODEL_DESC_H
#define WS_MODEL_DESC_H

#include <stdbool.h>
#include <stdint.h>

#include "wsurg/alloc.h"
#include "wsurg/err.h"

typedef enum ws_norm_kind {
    WS_NORM_RMS,
    WS_NORM_RMS_PLUS1,
    WS_NORM_LAYER
} ws_norm_kind;

typedef enum ws_block_kind {
    WS_BLOCK_PRE,      /**< x += f(n(x)) */
    WS_BLOCK_POST,     /**< x = n(x + f(x)) */
    WS_BLOCK_PARALLEL, /**< x += attention(n1(x)) + mlp(n2(x)) */
    WS_BLOCK_SANDWICH  /**< x += n2(f(n1(x))) */
} ws_block_kind;

typedef enum ws_act_kind {
    WS_ACT_SILU,
    WS_ACT_GELU_TANH,
    WS_ACT_GELU_ERF,
    WS_ACT_RELU
} ws_act_kind;

typedef enum ws_rope_kind {
    WS_ROPE_NONE,
    WS_ROPE_PLAIN,
    WS_ROPE_LINEAR,
    WS_ROPE_DYNAMIC,
    WS_ROPE_LLAMA3,
    WS_ROPE_YARN
} ws_rope_kind;

/** Rotary positions; see rope.c for the formulas. */
typedef struct ws_rope {
    ws_rope_kind kind;
    int64_t dim;  /**< of each head's D, the first dim are turned; even */
    double theta; /**< base */
    double factor, low, high, original; /**< low, high: llama3's frequency factors */
    double beta_fast, beta_slow, attention_factor;
    bool truncate;
} ws_rope;

/** Which stored layout gives q, k, v. */
typedef enum ws_fusion { WS_FUSION_NONE, WS_FUSION_QKV } ws_fusion;

typedef struct ws_model_desc {
    char family[32]; /**< model_type */
    int64_t C, L, H, K, D, F, V, max_positions;
    ws_norm_kind norm;
    double eps;
    ws_block_kind block;
    bool qk_norm;        /**< RMS per head, before the positions */
    bool learned;        /**< a table of positions is added to the embedding */
    ws_rope rope;        /**< WS_ROPE_NONE: no rotary positions */
    double scale;        /**< of q k^T */
    bool scale_by_layer; /**< and divided by layer index + 1 */
    bool qkv_bias, o_bias, mlp_bias;
    bool gated; /**< act(gate) * up; else act(up) */
    ws_act_kind act;
    double embed_scale;
    bool tied;
    bool conv1d; /**< linears are stored (in, out) */
    ws_fusion fusion;
    int64_t *window; /**< (L) keys that a query sees, itself included; 0: all */
    double dropout;  /**< largest of the config's, which training here leaves out */
    int64_t bos;     /**< -1: none */
    int64_t eos[16];
    int n_eos;
} ws_model_desc;

/**
 * Read config.json of @p len bytes. Arrays are the arena's.
 *
 * @param path     for reports
 * @param unknown  as ws_config_keys_check()
 * @return WS_OK; WS_E_HEADER not valid, or values that contradict each other;
 *         WS_E_UNSUPPORTED a model_type, or a field that changes numbers or whose
 *         meaning is not known here (named); WS_E_MEMORY
 * @source the configuration classes of transformers 4 and 5
 */
WS_API ws_status ws_model_desc_parse(ws_model_desc *d, const char *text, size_t len,
                                     const char *path, ws_diag *unknown,
                                     ws_arena *arena, ws_err *err);

#endif
