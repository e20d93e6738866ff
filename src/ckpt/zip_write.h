/*
 * zip_write.h - the records of a zip archive of stored members, and NumPy's headers
 *
 * zip64 fields stand where a size or an offset needs them, and only there.
 */
#ifndef WS_CKPT_ZIP_WRITE_H
#define WS_CKPT_ZIP_WRITE_H

#include "ckpt/zip.h"
#include "wsurg/text.h"

/** The member's own header, which its data follow. .at and .offset are not looked at.
 */
WS_API void ws_zip_put_local(ws_buf *b, const ws_zip_member *m, uint32_t crc);

/** Its entry in the directory; its own header begins at byte @p local. */
WS_API void ws_zip_put_entry(ws_buf *b, const ws_zip_member *m, uint32_t crc,
                             uint64_t local);

/** What follows the directory of @p n entries, @p bytes long, that begins at byte
 * @p offset. */
WS_API void ws_zip_put_end(ws_buf *b, uint64_t n, uint64_t offset, uint64_t bytes);

/** Whether a reader takes @p name for a member: a plain relative path. */
WS_API bool ws_zip_name_good(const char *name);

/** Order of names without regard to letter case; equal ones are refused by readers. */
WS_API int ws_zip_name_compare(const char *a, const char *b);

/** How NumPy spells a dtype, "<f4"; NULL: it has none. */
WS_API const char *ws_npy_word(ws_dtype dtype);

/** The header of an npy array, version 1.0, that data of @p t's shape as @p dtype
 * follow. @pre ws_npy_word(dtype) is not NULL */
WS_API void ws_npy_put_header(ws_buf *b, const ws_tensor *t, ws_dtype dtype);

#endif
