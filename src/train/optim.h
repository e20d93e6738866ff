/*
 * optim.h - AdamW and SGD as PyTorch has them, and clipping by the global norm
 */
#ifndef WS_TRAIN_OPTIM_H
#define WS_TRAIN_OPTIM_H

#include <stddef.h>

#include "base/pool.h"
#include "wsurg/train.h"

/** One tensor that is trained: (n) numbers each, owned by who made it. */
typedef struct ws_slot_f32 {
    const char *name;
    size_t n;
    float *p;            /**< the parameter */
    float *g;            /**< its gradient */
    float *m, *v;        /**< moments; SGD has no v, and no m without momentum */
    const uint8_t *mask; /**< 0: the entry stays as it is; NULL: all are trained */
    const float *soft;   /**< factors on the steps of entries, 0: it stays; or NULL */
    size_t span;         /**< entries that share a factor */
    double decay;        /**< weight decay of this tensor */
} ws_slot_f32;

typedef struct ws_optim ws_optim;

/**
 * @param slots  (n) must outlive it
 * @return WS_OK; WS_E_MEMORY
 */
ws_status ws_optim_new(ws_optim **out, const ws_optim_opts *o, ws_slot_f32 *slots,
                       size_t n, ws_pool *pool, ws_err *err);
void ws_optim_free(ws_optim *o);

/** All gradients become 0, over the pool: their memory is as large as the weights'. */
void ws_optim_clear(ws_optim *o);

/**
 * Norm of all gradients together, sqrt(sum g^2) in double over fixed blocks, joined in
 * order. Gradients of masked entries are set to 0 first.
 *
 * @param bad  out: the first tensor whose gradient is not finite, or -1
 */
double ws_optim_norm(ws_optim *o, int64_t *bad);

/** min(1, max / (norm + 1e-6)) in float32; 1 when @p max is 0: no limit.
 * @source torch.nn.utils.clip_grad_norm_ */
float ws_optim_clip(double norm, double max);

/**
 * One step: p, m and v from g * clip, in one pass. Powers, corrections and step size in
 * double, elements in float32, in PyTorch's order of operations.
 *
 * @param step  this step's number: 1, 2, ...
 * @param lr    this step's rate
 * @source PyTorch 2: optim/adam.py (decoupled weight decay), optim/sgd.py
 */
void ws_optim_step(ws_optim *o, int64_t step, double lr, float clip);

#endif
