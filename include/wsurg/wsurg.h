/*
 * wsurg.h - the whole public interface, and its version
 */
#ifndef WSURG_WSURG_H
#define WSURG_WSURG_H

#include "wsurg/alloc.h"
#include "wsurg/ckpt.h"
#include "wsurg/ctx.h"
#include "wsurg/digest.h"
#include "wsurg/dtype.h"
#include "wsurg/err.h"
#include "wsurg/export.h"
#include "wsurg/linalg.h"
#include "wsurg/manifest.h"
#include "wsurg/merge.h"
#include "wsurg/method.h"
#include "wsurg/text.h"

#ifdef __cplusplus
extern "C" {
#endif

/** "0.1.0": of the library in use, whatever the headers were. Static. */
WS_API const char *ws_version(void);

/** One line for --version: name, version, and how the linear algebra was built. Written
 * into @p out, cut to @p size bytes. */
WS_API void ws_version_text(char *out, size_t size);

#ifdef __cplusplus
}
#endif

#endif
