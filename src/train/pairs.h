/*
 * pairs.h - preference pairs: the loss of direct preference optimisation
 *
 *   s = (pi_c - rho_c) - (pi_r - rho_r)    log-probabilities of completions, summed
 *   loss = -ln sigmoid(beta s);  dloss/dpi_c = -beta sigmoid(-beta s) = -dloss/dpi_r
 *
 * rho is a reference, asked once for each pair; pairs are known again by the digest of
 * their tokens, in whichever epoch they come.
 *
 * @source Rafailov et al. 2023, arXiv:2305.18290
 */
#ifndef WS_TRAIN_PAIRS_H
#define WS_TRAIN_PAIRS_H

#include "wsurg/data.h"
#include "wsurg/xxh.h"

/** Log-probabilities of one pair under the reference. */
typedef struct ws_pair_ref {
    ws_xxh128 key;
    double chosen, rejected;
} ws_pair_ref;

/** What is known of the reference. Zero is empty. */
typedef struct ws_pairs {
    ws_pair_ref *table; /**< (size) open addressing; zero key: free */
    size_t size, used;
} ws_pairs;

/** Whether all pairs of @p b are known. */
bool ws_pairs_known(const ws_pairs *p, const ws_batch *b);

/** Keep what the reference said of the pairs of @p b: @p logp (b->n), of each target.
 * WS_OK; WS_E_MEMORY. */
ws_status ws_pairs_keep(ws_pairs *p, const ws_batch *b, const double *logp,
                        ws_err *err);

/**
 * Loss of the pairs of @p b whose targets have log-probabilities @p logp (b->n).
 *
 * @param up   (b->n) out: scale * dloss/dlogp; NULL: not wanted
 * @param sum  out: of the losses
 * @return WS_OK; WS_E_INTERNAL a pair without reference
 */
ws_status ws_pairs_loss(const ws_pairs *p, const ws_batch *b, const double *logp,
                        double beta, double scale, double *up, double *sum,
                        ws_err *err);

void ws_pairs_free(ws_pairs *p);

#endif
