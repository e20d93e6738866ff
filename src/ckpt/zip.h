/*
 * zip.h - zip archives whose members are stored as they are, read where they lie
 *
 * What PyTorch and NumPy write. Everything that scanners and loaders are known to
 * disagree on is refused: two members of one name, names that differ between the two
 * directories, overlapping members, compressed or encrypted ones.
 */
#ifndef WS_CKPT_ZIP_H
#define WS_CKPT_ZIP_H

#include "ckpt/ckpt_internal.h"

typedef struct ws_zip_member {
    const char *name;       /**< UTF-8, plain relative path */
    uint64_t at;            /**< of its entry in the directory; for errors */
    uint64_t offset, bytes; /**< of its data in the file */
} ws_zip_member;

typedef struct ws_zip {
    ws_arena arena;
    ws_zip_member *members; /**< (n) in the order of the directory */
    size_t n;
} ws_zip;

/**
 * Read the directory of the archive that is file number @p file of @p c.
 * @return WS_OK; WS_E_HEADER; WS_E_UNSUPPORTED a compressed or encrypted member;
 *         WS_E_IO; WS_E_MEMORY
 */
WS_API ws_status ws_zip_open(ws_zip *out, const ws_ckpt *c, uint32_t file, ws_err *err);
WS_API void ws_zip_free(ws_zip *z);

/** The member called @p name, or NULL. */
WS_API const ws_zip_member *ws_zip_find(const ws_zip *z, const char *name);

#endif
