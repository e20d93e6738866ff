/*
 * archive.c - files that are zip archives or arrays, told by their first bytes
 */
#include "ckpt/archive.h"

#include <string.h>

/** The stem of a file's name, for an array that has no other. */
static char *stem(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot == NULL || dot == name ? ws_strdup(name)
                                      : ws_strndup(name, (size_t)(dot - name));
}

static ws_status load_zip(ws_ckpt *c, uint32_t file, ws_diag *warnings, ws_err *err)
{
    ws_zip zip;
    ws_status st = ws_zip_open(&zip, c, file, err);
    if (st != WS_OK)
        return st;
    if (zip.n > 0 && ws_torch_is(&zip)) {
        c->format = "pytorch";
        st = ws_torch_load(c, file, &zip, warnings, err);
    } else {
        c->format = "npz";
        st = ws_npz_load(c, file, &zip, err);
    }
    ws_zip_free(&zip);
    return st;
}

ws_status ws_archive_load(ws_ckpt *c, uint32_t file, bool *known, ws_diag *warnings,
                          ws_err *err)
{
    const ws_ckpt_file *f = &c->files[file];
    unsigned char head[6] = { 0 };
    const size_t have = f->bytes < sizeof head ? (size_t)f->bytes : sizeof head;
    ws_status st = ws_ckpt_file_read(c, file, 0, have, head, err);
    *known = false;
    if (st != WS_OK)
        return st;
    if (memcmp(head, "PK\3\4", 4) == 0 || memcmp(head, "PK\5\6", 4) == 0) {
        *known = true;
        return load_zip(c, file, warnings, err);
    }
    if (memcmp(head, "\x93NUMPY", 6) != 0)
        return WS_OK;
    *known = true;
    c->format = "npy";
    char *name = stem(f->name);
    if (name == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for the name of an array");
    st = ws_npy_load(c, file, name, 0, f->bytes, err);
    ws_free(name);
    return st;
}
