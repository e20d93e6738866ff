/*
 * peft.h - an adapter from parts in memory, and one as a part of a larger output
 */
#ifndef WS_HF_PEFT_H
#define WS_HF_PEFT_H

#include "ckpt/stage_manifest.h"
#include "wsurg/adapter.h"

/** As ws_adapter_open(), from the text of a configuration and open weights, which are
 * the adapter's on success. @p path is only named. */
WS_API ws_status ws_adapter_from(ws_adapter **out, const char *path, const char *config,
                                 size_t len, ws_ckpt *file, ws_diag *warnings,
                                 ws_err *err);

/**
 * Put the two files of an adapter into @p folder ("adapter/") of an output that is
 * staged already; its manifest and its showing are the caller's.
 * @return as ws_adapter_write()
 */
WS_API ws_status ws_adapter_stage(const ws_adapter_spec *spec, bool no_provenance,
                                  ws_stage *stage, const char *folder, ws_err *err);

/** An adapter that is staged module by module, as the factors come. */
typedef struct ws_adapter_sink ws_adapter_sink;

/**
 * Lay @p spec out in @p folder of @p stage and create its file. The factors' numbers
 * may be missing yet, `.content` and `.residual` be any digest; the arrays of @p spec
 * are borrowed until ws_adapter_sink_close().
 * @return as ws_adapter_stage()
 */
WS_API ws_status ws_adapter_sink_open(ws_adapter_sink **out,
                                      const ws_adapter_spec *spec, bool no_provenance,
                                      ws_stage *stage, const char *folder, ws_err *err);

/** Write the factors of module @p k; their digests are what ws_adapter_sink_done()
 * takes in a run that goes on. Thread-safe for different modules. */
WS_API ws_status ws_adapter_sink_put(ws_adapter_sink *s, size_t k, const float *a,
                                     const float *b, ws_xxh128 digests[2], ws_err *err);

/** Module @p k is in the staged file already, with these digests of A and B. */
WS_API void ws_adapter_sink_done(ws_adapter_sink *s, size_t k,
                                 const ws_xxh128 digests[2]);

/** Header and configuration, when every module is there. @p content and @p residual
 * replace those of the specification where it has them. */
WS_API ws_status ws_adapter_sink_finish(ws_adapter_sink *s, const char *content,
                                        const char *residual, ws_err *err);

/** What the file of weights holds once finished; borrowed from the sink. */
WS_API ws_stage_expect ws_adapter_sink_expect(const ws_adapter_sink *s);

/**
 * A sink whose output is an adapter directory of its own, at @p target.
 * @return as ws_adapter_write()
 */
WS_API ws_status ws_adapter_sink_create(ws_adapter_sink **out,
                                        const ws_adapter_spec *spec,
                                        const ws_adapter_target *target,
                                        const ws_ctx *ctx, ws_err *err);

/** Of ws_adapter_sink_create(): finish it, check what is staged, and show it.
 * @param files  out, may be NULL: the manifest, to be freed */
WS_API ws_status ws_adapter_sink_show(ws_adapter_sink *s, const ws_ctx *ctx,
                                      ws_manifest **files, ws_err *err);

/** NULL is fine. */
WS_API void ws_adapter_sink_close(ws_adapter_sink *s);

#endif
