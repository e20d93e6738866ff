/*
 * step.c - a place for tests to kill the process between two file-system steps
 */
#include "ckpt/step.h"

#include <signal.h>
#include <stdatomic.h>

static atomic_long steps_left = -1;
static atomic_bool plain_renames;

void ws_stage_plain_renames(bool plain)
{
    atomic_store(&plain_renames, plain);
}

bool ws_stage_has_plain_renames(void)
{
    return atomic_load(&plain_renames);
}

void ws_stage_kill_after(long n)
{
    atomic_store(&steps_left, n);
}

void ws_stage_step(void)
{
    if (atomic_load_explicit(&steps_left, memory_order_relaxed) >= 0 &&
        atomic_fetch_sub(&steps_left, 1) == 0)
        raise(SIGKILL);
}
