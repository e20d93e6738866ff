/*
 * fuzz_options.c - the option parser: one argument a line
 *
 * Holds for every command line: the same mistakes twice, each value inside its range,
 * and no more mistakes than arguments allow.
 */
#include <string.h>

#include "cli/opts.h"
#include "fuzz.h"

enum { MAX_ARGS = 64 };

struct args {
    double real;
    int64_t integer;
    uint64_t size;
    bool flag;
    ws_count count;
    const char *text;
    ws_strs list;
    ws_word word;
    ws_dtype_opt dtype;
    ws_maybe maybe;
    const char *first;
    ws_strs rest;
};

static const ws_opt inner[] = {
    WS_OPT(struct args, real, "real", 'r', "X", 0.5, 0.0, 1.0, "a number"),
    WS_OPT(struct args, integer, "base", 'b', "N", 3, -10, 10, "a whole number"),
    WS_SIZE_OR(struct args, size, "shard-size", "SIZE", "like-base", "a size"),
    WS_FLAG(struct args, flag, "force", 'f', "a flag"),
    WS_OPT_END,
};

static const ws_opt table[] = {
    { .kind = WS_OPT_SET, .set = inner },
    WS_FLAG(struct args, count, "quiet", 'q', "a count"),
    WS_TEXT(struct args, text, "out", 'o', "FILE", "text"),
    WS_TEXT(struct args, list, "set", 's', "K=V", "texts"),
    WS_WORD(struct args, word, "color", "auto|always|never", 0, "a word"),
    WS_DTYPE(struct args, dtype, "dtype", "a dtype"),
    { .name = "json",
      .kind = WS_OPT_MAYBE,
      .offset = offsetof(struct args, maybe),
      .value = "FILE",
      .def = NAN,
      .help = "perhaps text" },
    WS_OPT_END,
};

static const ws_arg positional[] = {
    WS_ARG(struct args, first, "FIRST", "one"),
    WS_ARG_LIST(struct args, rest, "REST", 0, "more"),
    WS_ARG_END,
};

static void parse(int argc, const char *const *argv, struct args *a, ws_diag *errors,
                  ws_arena *arena)
{
    ws_parse p = { .target = { { table, a }, { NULL, NULL } },
                   .args = positional,
                   .arena = arena,
                   .errors = errors,
                   .argc = argc,
                   .argv = argv,
                   .skip = { -1, -1 },
                   .command = "merge" };

    ws_opts_defaults(&p.target[0]);
    ws_opts_parse(&p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct args a = { 0 }, again = { 0 };
    ws_diag errors = { 0 }, errors_again = { 0 };
    ws_arena arena = { 0 };
    const char *argv[MAX_ARGS];
    int argc = 0;
    char *text = malloc(size + 1);

    MUST(text != NULL);
    memcpy(text, data, size);
    text[size] = '\0';
    for (char *line = text; line && argc < MAX_ARGS; argc++) {
        argv[argc] = line;
        line = strchr(line, '\n');
        if (line)
            *line++ = '\0';
    }
    parse(argc, argv, &a, &errors, &arena);
    parse(argc, argv, &again, &errors_again, &arena);
    MUST(errors.n == errors_again.n);
    for (size_t i = 0; i < errors.n; i++)
        MUST(strcmp(errors.items[i].msg, errors_again.items[i].msg) == 0);
    MUST(errors.n <= 4 * size + 4);
    MUST(a.real >= 0.0 && a.real <= 1.0);
    MUST(a.integer >= -10 && a.integer <= 10);
    MUST(a.word.index >= 0 && a.word.index < 3);
    MUST(a.list.n + a.rest.n <= (size_t)argc);
    for (size_t i = 0; i < a.rest.n; i++)
        MUST(a.rest.v[i] == again.rest.v[i]);
    ws_diag_free(&errors);
    ws_diag_free(&errors_again);
    ws_arena_free(&arena);
    free(text);
    return 0;
}
