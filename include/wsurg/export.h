/*
 * export.h - what the shared library shows, everything else is hidden; and how hot
 * functions are compiled
 */
#ifndef WSURG_EXPORT_H
#define WSURG_EXPORT_H

#if defined(__GNUC__)
#define WS_API __attribute__((visibility("default")))
#else
#define WS_API
#endif

/** Hot kernels are compiled for several kinds of x86-64; the same bits on all (no
 * contraction, no reassociation). */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(WS_NO_CLONES)
#define WS_HOT                                                                         \
    __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define WS_HOT
#endif

#endif
