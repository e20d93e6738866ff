/*
 * taskvec_spectrum.h - singular values of the updates of a task vector
 */
#ifndef WS_SURGERY_TASKVEC_SPECTRUM_H
#define WS_SURGERY_TASKVEC_SPECTRUM_H

#include "hf/taskvec_file.h"
#include "wsurg/taskvec.h"

/**
 * Decompose every update of two or more dimensions, as a matrix of its leading one; as
 * many at once as threads and memory allow.
 * @param out  (tv->n) the fields from rows on are filled
 * @return WS_OK; WS_E_MEMORY a matrix does not fit; WS_E_NOT_FINITE;
 *         WS_E_NO_CONVERGENCE; WS_E_INTERRUPTED; WS_E_IO
 */
ws_status ws_tv_spectrum(const ws_taskvec *tv, ws_taskvec_tensor_stats *out,
                         const ws_ctx *ctx, ws_err *err);

/**
 * Leading values, effective rank and rank_90 from all singular values @p s (n),
 * descending.
 *
 *     effective rank = exp(-sum p ln p),  p = s / sum s        (Roy & Vetterli 2007)
 */
void ws_tv_spectrum_figures(const double *s, size_t n, ws_taskvec_tensor_stats *out);

#endif
