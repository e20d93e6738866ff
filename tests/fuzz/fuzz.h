/*
 * fuzz.h - what a fuzz target defines, and how it says that a property does not hold
 */
#ifndef WS_TEST_FUZZ_H
#define WS_TEST_FUZZ_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/** Stop with a message: the fuzzer keeps the input. Also in release builds. */
#define MUST(condition)                                                                \
    do {                                                                               \
        if (!(condition)) {                                                            \
            fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__,          \
                    #condition);                                                       \
            abort();                                                                   \
        }                                                                              \
    } while (0)

#endif
