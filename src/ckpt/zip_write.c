/*
 * zip_write.c - records of a zip archive (APPNOTE.TXT 6.3: 4.3.7, 4.3.12-16, 4.5.3) and
 * headers of NumPy's arrays (NEP 1)
 */
#include "ckpt/zip_write.h"

#include <string.h>

enum {
    NEEDS = 20,            // version that a plain member needs
    NEEDS_ZIP64 = 45,      // and one with zip64 fields
    UTF8_NAME = 0x800,     // flag
    DATE_1980 = 1 << 5 | 1 // the first day that there is
};
#define THERE 0xFFFFFFFFu // "see the zip64 field"

static void put(ws_buf *b, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++)
        ws_buf_putc(b, (char)(unsigned char)(v >> 8 * i));
}

static uint64_t small(uint64_t v, uint64_t there)
{
    return v < there ? v : there;
}

static bool ascii(const char *s)
{
    while (*s > 0)
        s++;
    return *s == '\0';
}

/** From "version needed" to the length of the name, the same in both headers. */
static void put_common(ws_buf *b, const ws_zip_member *m, uint32_t crc, bool zip64)
{
    put(b, zip64 ? NEEDS_ZIP64 : NEEDS, 2);
    put(b, ascii(m->name) ? 0 : UTF8_NAME, 2);
    put(b, 0, 2); // stored
    put(b, 0, 2);
    put(b, DATE_1980, 2);
    put(b, crc, 4);
    put(b, small(m->bytes, THERE), 4);
    put(b, small(m->bytes, THERE), 4);
    put(b, strlen(m->name), 2);
}

void ws_zip_put_local(ws_buf *b, const ws_zip_member *m, uint32_t crc)
{
    const bool wide = m->bytes >= THERE;
    ws_buf_add(b, "PK\3\4", 4);
    put_common(b, m, crc, wide);
    put(b, wide ? 20 : 0, 2);
    ws_buf_puts(b, m->name);
    if (!wide)
        return;
    put(b, 1, 2);
    put(b, 16, 2);
    put(b, m->bytes, 8);
    put(b, m->bytes, 8);
}

void ws_zip_put_entry(ws_buf *b, const ws_zip_member *m, uint32_t crc, uint64_t local)
{
    const bool wide = m->bytes >= THERE, far = local >= THERE;
    const unsigned extra = (wide ? 16u : 0) + (far ? 8u : 0);
    ws_buf_add(b, "PK\1\2", 4);
    put(b, 3 << 8 | NEEDS_ZIP64, 2); // made by a Unix
    put_common(b, m, crc, extra > 0);
    put(b, extra > 0 ? extra + 4 : 0, 2);
    put(b, 0, 2); // comment
    put(b, 0, 2); // disk
    put(b, 0, 2);
    put(b, 0100644u << 16, 4); // a plain file
    put(b, small(local, THERE), 4);
    ws_buf_puts(b, m->name);
    if (extra == 0)
        return;
    put(b, 1, 2);
    put(b, extra, 2);
    if (wide) {
        put(b, m->bytes, 8);
        put(b, m->bytes, 8);
    }
    if (far)
        put(b, local, 8);
}

void ws_zip_put_end(ws_buf *b, uint64_t n, uint64_t offset, uint64_t bytes)
{
    if (n >= 0xFFFF || offset >= THERE || bytes >= THERE) {
        ws_buf_add(b, "PK\6\6", 4);
        put(b, 44, 8); // of the rest of the record
        put(b, 3 << 8 | NEEDS_ZIP64, 2);
        put(b, NEEDS_ZIP64, 2);
        put(b, 0, 4);
        put(b, 0, 4);
        put(b, n, 8);
        put(b, n, 8);
        put(b, bytes, 8);
        put(b, offset, 8);
        ws_buf_add(b, "PK\6\7", 4);
        put(b, 0, 4);
        put(b, offset + bytes, 8);
        put(b, 1, 4);
    }
    ws_buf_add(b, "PK\5\6", 4);
    put(b, 0, 4);
    put(b, small(n, 0xFFFF), 2);
    put(b, small(n, 0xFFFF), 2);
    put(b, small(bytes, THERE), 4);
    put(b, small(offset, THERE), 4);
    put(b, 0, 2);
}

/* ---- npy ---- */

const char *ws_npy_word(ws_dtype dtype)
{
    switch (dtype) {
    case WS_DT_BOOL:
        return "|b1";
    case WS_DT_I8:
        return "|i1";
    case WS_DT_U8:
        return "|u1";
    case WS_DT_I16:
        return "<i2";
    case WS_DT_U16:
        return "<u2";
    case WS_DT_F16:
        return "<f2";
    case WS_DT_I32:
        return "<i4";
    case WS_DT_U32:
        return "<u4";
    case WS_DT_F32:
        return "<f4";
    case WS_DT_I64:
        return "<i8";
    case WS_DT_U64:
        return "<u8";
    case WS_DT_F64:
        return "<f8";
    case WS_DT_C64:
        return "<c8";
    default:
        return NULL;
    }
}

void ws_npy_put_header(ws_buf *b, const ws_tensor *t, ws_dtype dtype)
{
    enum { FRONT = 10, UNIT = 64 };
    ws_buf text = { 0 };
    ws_buf_printf(&text, "{'descr': '%s', 'fortran_order': False, 'shape': (",
                  ws_npy_word(dtype));
    for (int d = 0; d < t->rank; d++)
        ws_buf_printf(&text, "%s%llu", d == 0 ? "" : ", ",
                      (unsigned long long)t->shape[d]);
    ws_buf_puts(&text, t->rank == 1 ? ",), }" : "), }");
    while ((FRONT + text.n + 1) % UNIT != 0) // the data begin at a multiple
        ws_buf_putc(&text, ' ');
    ws_buf_putc(&text, '\n');
    ws_buf_add(b, "\x93NUMPY\1\0", 8);
    put(b, text.n, 2);
    ws_buf_add(b, text.p, text.n);
    b->failed |= text.failed;
    ws_buf_free(&text);
}
