/*
 * foreign.c - files that are no safetensors, told by their first bytes
 *
 * Only asked when the bytes make no sense as a safetensors header, and only to say
 * something more useful than "header too large".
 */
#include <string.h>

#include "ckpt/ckpt_internal.h"

struct magic {
    const char *bytes;
    size_t n;
    ws_status code;
    const char *what, *hint;
};

#define M(bytes) (bytes), sizeof(bytes) - 1

static const struct magic magics[] = {
    { M("version https://git-lfs"), WS_E_HEADER,
      "file is a Git-LFS pointer, not the weights", "fetch them with: git lfs pull" },
    { M("PK\3\4"), WS_E_UNSUPPORTED,
      "file is a zip archive where a safetensors file is expected",
      "PyTorch's and NumPy's archives are read when named themselves" },
    { M("GGUF"), WS_E_UNSUPPORTED, "file is GGUF where a safetensors file is expected",
      "GGUF models are read when named themselves" },
    { M("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"), WS_E_UNSUPPORTED,
      "PyTorch checkpoint of the form before version 1.6: not read",
      "load and save it again with torch, as safetensors" },
    { M("\x80\x02"), WS_E_UNSUPPORTED, "file is a pickle: not read", NULL },
    { M("\x80\x04"), WS_E_UNSUPPORTED, "file is a pickle: not read", NULL },
    { M("\x80\x05"), WS_E_UNSUPPORTED, "file is a pickle: not read", NULL },
    { M("\x89HDF\r\n\x1a\n"), WS_E_UNSUPPORTED, "HDF5 checkpoints are not read", NULL },
    { M("\x1f\x8b"), WS_E_UNSUPPORTED, "file is compressed with gzip",
      "unpack it first" },
    { M("\x28\xb5\x2f\xfd"), WS_E_UNSUPPORTED, "file is compressed with zstd",
      "unpack it first" },
    { M("<!DOCTYPE"), WS_E_HEADER, "file is a web page, not the weights",
      "the download has failed: fetch it again" },
    { M("<html"), WS_E_HEADER, "file is a web page, not the weights",
      "the download has failed: fetch it again" },
    { M("{"), WS_E_HEADER, "file begins as JSON, not as a safetensors file",
      "for a model with an index name its directory, not the index" },
};

ws_status ws_foreign_check(const void *head, size_t n, ws_err *err)
{
    ws_status st = WS_OK;
    if (n == 0) {
        st = ws_fail(err, WS_E_HEADER, "file is empty");
    }
    for (size_t i = 0; st == WS_OK && i < sizeof magics / sizeof *magics; i++) {
        if (n < magics[i].n || memcmp(head, magics[i].bytes, magics[i].n) != 0)
            continue;
        st = ws_fail(err, magics[i].code, "%s", magics[i].what);
        if (magics[i].hint != NULL)
            ws_err_hint(err, "%s", magics[i].hint);
    }
    if (st != WS_OK)
        ws_err_at(err, NULL, NULL, 0);
    return st;
}
