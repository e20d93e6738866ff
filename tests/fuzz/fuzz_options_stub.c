/*
 * fuzz_options_stub.c - the parser alone knows of no commands
 */
#include "cli/cmd.h"

const ws_cmd *ws_cmd_find(const char *first, const char *second, int *words)
{
    (void)first;
    (void)second;
    *words = 0;
    return NULL;
}
