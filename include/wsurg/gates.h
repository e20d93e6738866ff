/*
 * gates.h - what must hold of a model before it may pass
 *
 * Every gate that is asked for is evaluated, whatever the others say.
 */
#ifndef WSURG_GATES_H
#define WSURG_GATES_H

#include <math.h>

#include "wsurg/compare.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { WS_GATE_WORST = 10, WS_GATE_NOTE = 96 };

typedef struct ws_gates_opts {
    bool finite;          /**< no NaN, no infinity, no BOOL but 0 and 1 */
    bool same;            /**< names, shapes and dtypes of --against */
    bool fits_f16;        /**< no finite value beyond F16's largest */
    bool config;          /**< config.json says what the tensors are */
    const char *frozen;   /**< PATTERN: these are byte-equal to --against; NULL: off */
    const char *only;     /**< PATTERN: all others are byte-equal; NULL: off */
    double max_rel_delta; /**< largest ||a - b|| / ||b|| of a tensor; NAN: off */
    double min_cosine; /**< least cosine of a tensor with that of --against; NAN: off */
    const ws_ckpt *lineage; /**< the model that it must descend from; NULL: off */
} ws_gates_opts;

#define WS_LINEAGE_LIMIT 0.5

#define WS_GATES_OPTS_INIT                                                             \
    {                                                                                  \
        .max_rel_delta = NAN, .min_cosine = NAN                                        \
    }

/**
 * One gate's answer. For figures a tensor that only one model has, of another shape,
 * changed to or from NaN or infinity, or of integers that changed, counts as infinitely
 * far away and as orthogonal: what cannot be judged does not pass.
 */
typedef struct ws_gate {
    const char *name; /**< as its option; static */
    bool passed;
    double value, limit; /**< a count of offenders (limit 0), or the figure itself */
    struct {
        const char *tensor; /**< borrowed from the checkpoints */
        double value;
        char note[WS_GATE_NOTE]; /**< what was wanted, in words; or empty */
    } worst[WS_GATE_WORST];      /**< the worst offenders first */
    size_t n_worst;
} ws_gate;

typedef struct ws_gates {
    bool passed;
    ws_gate gates[12];
    size_t n;
} ws_gates;

/**
 * Evaluate the gates of @p o on @p c, compared with @p against (NULL where no gate
 * needs it).
 *
 * Lineage is told from the tensors alone, never from metadata: the cosine of all the
 * matrices that both models have, times the share that these are of the larger model's
 * matrices. Descendants come close to 1, models trained apart to 0; the limit is
 * WS_LINEAGE_LIMIT.
 * @return WS_OK, with *out filled, whether or not they pass; WS_E_USAGE a pattern that
 *         is malformed or hits nothing, or a gate that needs @p against; WS_E_MISSING
 *         no config.json; WS_E_HEADER; WS_E_IO; WS_E_MEMORY; WS_E_INTERRUPTED
 */
WS_API ws_status ws_gates_run(ws_gates *out, const ws_ckpt *c, const ws_ckpt *against,
                              const ws_gates_opts *o, const ws_ctx *ctx, ws_err *err);

/** One line of a policy: a key and its value as text; of a list one for each item. */
typedef struct ws_policy_item {
    const char *key, *value;
    uint32_t line;
} ws_policy_item;

/**
 * Read a policy: a YAML (or JSON) map whose keys are the options of `wsurg check`.
 * @param out  (n) in @p arena, in file order
 * @return WS_OK; WS_E_RECIPE, with every mistake in @p errors; WS_E_IO; WS_E_MEMORY
 */
WS_API ws_status ws_policy_read(ws_policy_item **out, size_t *n, const char *path,
                                ws_arena *arena, ws_diag *errors);

#ifdef __cplusplus
}
#endif

#endif
