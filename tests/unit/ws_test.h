/*
 * ws_test.h - cmocka, and the asserts that it lacks
 */
#ifndef WS_TEST_H
#define WS_TEST_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/** |a - b| <= tol * max(1, |b|). */
#define assert_close(a, b, tol)                                                        \
    do {                                                                               \
        const double a_ = (double)(a), b_ = (double)(b);                               \
        const double scale_ = fabs(b_) > 1.0 ? fabs(b_) : 1.0;                         \
        if (!(fabs(a_ - b_) <= (tol) * scale_))                                        \
            fail_msg("%s = %.17g, want %.17g within %g", #a, a_, b_, (double)(tol));   \
    } while (0)

/** Two floats equal bit for bit. */
#define assert_bits(a, b)                                                              \
    do {                                                                               \
        const float a_ = (a), b_ = (b);                                                \
        if (memcmp(&a_, &b_, sizeof a_) != 0)                                          \
            fail_msg("%s = %.9g, want the bits of %.9g", #a, (double)a_, (double)b_);  \
    } while (0)

/** A status is WS_OK; prints the report when not. */
#define assert_ok(expr, err)                                                           \
    do {                                                                               \
        const ws_status st_ = (expr);                                                  \
        if (st_ != WS_OK)                                                              \
            fail_msg("%s: status %d: %s", #expr, (int)st_, (err).msg);                 \
    } while (0)

#endif
