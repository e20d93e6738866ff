/*
 * model_internal.h - a loaded model: descriptor and weights
 */
#ifndef WS_MODEL_INTERNAL_H
#define WS_MODEL_INTERNAL_H

#include "model/layers.h"
#include "wsurg/model.h"

/** One layer; a weight whose data is NULL is none of this family's. Fused tensors are
 * views. */
typedef struct ws_layer {
    ws_weight attn_norm, attn_norm_b; /**< (C) */
    ws_weight q, k, v, o;             /**< (HD, C), (KD, C), (KD, C), (C, HD) */
    ws_weight q_b, k_b, v_b, o_b;
    ws_weight q_norm, k_norm;       /**< (D) */
    ws_weight mlp_norm, mlp_norm_b; /**< (C) */
    ws_weight gate, up, down;       /**< (F, C), (F, C), (C, F) */
    ws_weight gate_b, up_b, down_b;
} ws_layer;

struct ws_model_part;

struct ws_model {
    ws_model_desc d;
    ws_model_info info;
    ws_weight embed;     /**< (V, C) */
    ws_weight positions; /**< (max_positions, C) */
    ws_weight final_norm, final_norm_b;
    ws_weight head; /**< (V, C); the embedding when tied */
    ws_layer *layer;
    ws_ckpt *ckpt;
    ws_arena arena;
    void **blocks; /**< data of each tensor read */
    size_t n_blocks;
    struct ws_model_part *parts; /**< (n_blocks), see train_step.h */
    uint64_t limit;              /**< bytes for weights and work together */
};

#endif
