/*
 * archive.h - readers of zip archives and arrays, for who opens files
 */
#ifndef WS_CKPT_ARCHIVE_H
#define WS_CKPT_ARCHIVE_H

#include "ckpt/views.h"
#include "ckpt/zip.h"

/** Whether an archive holds a PyTorch pickle. */
WS_API bool ws_torch_is(const ws_zip *zip);

/** Add the tensors of a PyTorch archive that is file number @p file of @p c. As
 * ws_ckpt_open(). */
WS_API ws_status ws_torch_load(ws_ckpt *c, uint32_t file, const ws_zip *zip,
                               ws_diag *warnings, ws_err *err);

/** Add the arrays of an npz archive, each named as its member without `.npy`. */
WS_API ws_status ws_npz_load(ws_ckpt *c, uint32_t file, const ws_zip *zip, ws_err *err);

/** Add the array whose npy form begins at byte @p offset of the file and has @p bytes.
 */
WS_API ws_status ws_npy_load(ws_ckpt *c, uint32_t file, const char *name,
                             uint64_t offset, uint64_t bytes, ws_err *err);

/** Add the tensors of any file that is an archive or an array; @p known is set when it
 * is one. As ws_ckpt_open(). */
WS_API ws_status ws_archive_load(ws_ckpt *c, uint32_t file, bool *known,
                                 ws_diag *warnings, ws_err *err);

#endif
