/*
 * real.h - the number type of the layers: float, or double in the build of the tests
 *
 * Every file of the layers is compiled a second time with WS_MODEL_F64 for the
 * comparison with finite differences; its functions then bear the suffix _f64.
 */
#ifndef WS_MODEL_REAL_H
#define WS_MODEL_REAL_H

#include <stdint.h>

#include "wsurg/dtype.h"
#include "wsurg/export.h"
#include "wsurg/linalg.h"

#ifdef WS_MODEL_F64
typedef double ws_real;
#define WS_REAL_DT  WS_DT_F64
#define ws_to_real  ws_to_f64
#define ws_mat_real ws_mat_f64
#else
typedef float ws_real;
#define WS_REAL_DT  WS_DT_F32
#define ws_to_real  ws_to_f32
#define ws_mat_real ws_mat_f32
#endif

/** Sums run in this many fixed lanes, so that they vectorise and never change. */
enum { WS_LANES = 16 };

#ifdef WS_MODEL_F64
#define ws_act_exp                    ws_act_exp_f64
#define ws_act_exp_sum                ws_act_exp_sum_f64
#define ws_act_forward                ws_act_forward_f64
#define ws_act_backward               ws_act_backward_f64
#define ws_act_gated_forward          ws_act_gated_forward_f64
#define ws_act_gated_backward         ws_act_gated_backward_f64
#define ws_row_max                    ws_row_max_f64
#define ws_norm_forward               ws_norm_forward_f64
#define ws_norm_backward              ws_norm_backward_f64
#define ws_rope_table                 ws_rope_table_f64
#define ws_rope_apply                 ws_rope_apply_f64
#define ws_linear_forward             ws_linear_forward_f64
#define ws_linear_dx                  ws_linear_dx_f64
#define ws_linear_dw                  ws_linear_dw_f64
#define ws_attention_forward          ws_attention_forward_f64
#define ws_attention_backward         ws_attention_backward_f64
#define ws_attention_backward_scratch ws_attention_backward_scratch_f64
#define ws_attention_scratch          ws_attention_scratch_f64
#define ws_ce_forward                 ws_ce_forward_f64
#define ws_ce_backward                ws_ce_backward_f64
#define ws_fwd_bytes                  ws_fwd_bytes_f64
#define ws_fwd_new                    ws_fwd_new_f64
#define ws_fwd_free                   ws_fwd_free_f64
#define ws_fwd_run                    ws_fwd_run_f64
#define ws_fwd_logits                 ws_fwd_logits_f64
#define ws_fwd_rows                   ws_fwd_rows_f64
#define ws_fwd_ce                     ws_fwd_ce_f64
#define ws_fwd_pool                   ws_fwd_pool_f64
#define ws_weight_vector              ws_weight_vector_f64
#define ws_weight_row                 ws_weight_row_f64
#define ws_weight_part                ws_weight_part_f64
#define ws_weight_block               ws_weight_block_f64
#define ws_linear_panel ws_linear_panel_f64
#define ws_linear_dlow                ws_linear_dlow_f64
#define ws_model_master               ws_model_master_f64
#define ws_step_plan                  ws_step_plan_f64
#define ws_step_new                   ws_step_new_f64
#define ws_step_free                  ws_step_free_f64
#define ws_step_memory_of             ws_step_memory_of_f64
#define ws_step_pool                  ws_step_pool_f64
#define ws_step_run                   ws_step_run_f64
#define ws_step_run_loss              ws_step_run_loss_f64
#define ws_step_score                 ws_step_score_f64
#define ws_step_forward               ws_step_forward_f64
#define ws_step_backward              ws_step_backward_f64
#define ws_step_trains                ws_step_trains_f64
#define ws_step_wants                 ws_step_wants_f64
#define ws_step_rows                  ws_step_rows_f64
#define ws_step_norm                  ws_step_norm_f64
#define ws_step_norm_backward         ws_step_norm_backward_f64
#define ws_step_column_sums           ws_step_column_sums_f64
#define ws_step_table_grad            ws_step_table_grad_f64
#define ws_step_layer_forward         ws_step_layer_forward_f64
#define ws_step_layer_backward        ws_step_layer_backward_f64
#define ws_step_head                  ws_step_head_f64
#endif

#endif
