/*
 * opts.h - option tables: what a command takes, and the parser that reads them
 *
 * One row says everything about an option; the parser, --help, --help --json, the man
 * page and the completions all walk the same rows. The kind of an option is the type of
 * its field:
 *
 *     double        a number between min and max
 *     int64_t       a whole number between min and max
 *     uint64_t      a size with its unit, in bytes (one of .words: UINT64_MAX - index)
 *     bool          a flag
 *     ws_count      a flag that counts (-q, -qq)
 *     const char *  text, NULL when not given
 *     ws_strs       text, repeatable, in order
 *     ws_word       one of .words
 *     ws_dtype_opt  "keep" or a dtype
 *     ws_maybe      a flag that may bear a value (--json, --json=FILE)
 *
 * An option given twice keeps its last value, except where it is repeatable.
 */
#ifndef WS_CLI_OPTS_H
#define WS_CLI_OPTS_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wsurg/alloc.h"
#include "wsurg/dtype.h"
#include "wsurg/err.h"

/** Texts in the order given; the array is the arena's, the texts are argv's. */
typedef struct ws_strs {
    const char **v;
    size_t n;
} ws_strs;

/** Index into the row's words. */
typedef struct ws_word {
    int index;
} ws_word;

typedef struct ws_count {
    int n;
} ws_count;

/** Text that may be left out: given without "=" has value NULL. */
typedef struct ws_maybe {
    bool given;
    const char *value;
} ws_maybe;

typedef struct ws_dtype_opt {
    bool keep;
    ws_dtype dtype; /**< unless keep */
} ws_dtype_opt;

typedef enum ws_opt_kind {
    WS_OPT_REAL,
    WS_OPT_INT,
    WS_OPT_SIZE,
    WS_OPT_FLAG,
    WS_OPT_COUNT,
    WS_OPT_TEXT,
    WS_OPT_LIST,
    WS_OPT_WORD,
    WS_OPT_DTYPE,
    WS_OPT_MAYBE,
    WS_OPT_SET
} ws_opt_kind;

/** One option, or (WS_OPT_SET) a table of them whose fields live in a nested struct. */
typedef struct ws_opt {
    const char *name; /**< without dashes; '-' and '_' are the same */
    char letter;      /**< 0: none */
    ws_opt_kind kind;
    size_t offset;        /**< of the field in the args struct */
    const char *value;    /**< what the value is called: "X", "FILE"; NULL for flags */
    const char *words;    /**< "auto|always|never"; "@methods": names of methods, not
                          checked here */
    double def, min, max; /**< default and inclusive bounds; def NAN: none is shown */
    const char *help;
    const struct ws_opt *set;
    bool more; /**< of a set: --help lists names alone, the man page says all */
} ws_opt;

#define WS_OPT_FIELD_KIND(T, f)                                                        \
    _Generic(((T *)0)->f, double                                                       \
             : WS_OPT_REAL, int64_t                                                    \
             : WS_OPT_INT, uint64_t                                                    \
             : WS_OPT_SIZE, bool                                                       \
             : WS_OPT_FLAG, ws_count                                                   \
             : WS_OPT_COUNT, const char *                                              \
             : WS_OPT_TEXT, ws_strs                                                    \
             : WS_OPT_LIST, ws_word                                                    \
             : WS_OPT_WORD, ws_dtype_opt                                               \
             : WS_OPT_DTYPE, ws_maybe                                                  \
             : WS_OPT_MAYBE)
#define WS_OPT_ROW(T, f, long_name, short_name)                                        \
    .name = (long_name), .letter = (short_name), .kind = WS_OPT_FIELD_KIND(T, f),      \
    .offset = offsetof(T, f)

/** A number or a size: WS_OPT(struct diff_args, tol, "tol", 't', "X", 1e-6, 0.0, 1.0,
 * "largest difference that passes") */
#define WS_OPT(T, f, long_name, short_name, value_name, dflt, lo, hi, text)            \
    {                                                                                  \
        WS_OPT_ROW(T, f, long_name, short_name), .value = (value_name), .def = (dflt), \
                                                 .min = (lo), .max = (hi),             \
                                                 .help = (text)                        \
    }
/** A size that may also be one of @p list: word i is stored as UINT64_MAX - i. */
#define WS_SIZE_OR(T, f, long_name, value_name, list, text)                            \
    {                                                                                  \
        WS_OPT_ROW(T, f, long_name, 0), .value = (value_name), .words = (list),        \
                                        .def = NAN, .max = 0x1p63, .help = (text)      \
    }
/** Text (const char *, or ws_strs when repeatable). */
#define WS_TEXT(T, f, long_name, short_name, value_name, text)                         \
    {                                                                                  \
        WS_OPT_ROW(T, f, long_name, short_name), .value = (value_name), .def = NAN,    \
                                                 .help = (text)                        \
    }
/** A flag (bool, or ws_count). */
#define WS_FLAG(T, f, long_name, short_name, text)                                     \
    {                                                                                  \
        WS_OPT_ROW(T, f, long_name, short_name), .def = NAN, .help = (text)            \
    }
/** One of the words of @p list, the one of index @p dflt by default. */
#define WS_WORD(T, f, long_name, list, dflt, text)                                     \
    {                                                                                  \
        WS_OPT_ROW(T, f, long_name, 0), .value = (list), .words = (list),              \
                                        .def = (dflt), .help = (text)                  \
    }
/** Element type: keep, f32, f16 or bf16 in any common spelling. */
#define WS_DTYPE(T, f, long_name, text)                                                \
    {                                                                                  \
        WS_OPT_ROW(T, f, long_name, 0), .value = "keep|f32|f16|bf16",                  \
                                        .words = "keep|f32|f16|bf16", .def = 0.0,      \
                                        .help = (text)                                 \
    }
/** The rows of another table, for the struct that is field @p f of T. */
#define WS_SET(T, f, table)                                                            \
    {                                                                                  \
        .kind = WS_OPT_SET, .offset = offsetof(T, f), .set = (table)                   \
    }
/** Rows of the same struct that --help only names. */
#define WS_MORE(table)                                                                 \
    {                                                                                  \
        .kind = WS_OPT_SET, .set = (table), .more = true                               \
    }
#define WS_OPT_END                                                                     \
    {                                                                                  \
        .name = NULL                                                                   \
    }

/** A positional argument: one (const char *), or several (ws_strs). */
typedef struct ws_arg {
    const char *name; /**< "MODEL" */
    size_t offset;
    bool list;
    size_t min, max;   /**< how many */
    const char *words; /**< as in ws_opt, for the completions; or NULL */
    const char *help;
} ws_arg;

/** Exactly one. */
#define WS_ARG(T, f, arg_name, text)                                                   \
    {                                                                                  \
        .name = (arg_name), .offset = offsetof(T, f), .min = 1, .max = 1,              \
        .help = (text)                                                                 \
    }
/** One, or none (NULL). */
#define WS_ARG_MAY(T, f, arg_name, text)                                               \
    {                                                                                  \
        .name = (arg_name), .offset = offsetof(T, f), .max = 1, .help = (text)         \
    }
/** At least @p at_least; only as the last row. */
#define WS_ARG_LIST(T, f, arg_name, at_least, text)                                    \
    {                                                                                  \
        .name = (arg_name), .offset = offsetof(T, f), .list = true, .min = (at_least), \
        .max = SIZE_MAX, .help = (text)                                                \
    }
#define WS_ARG_END                                                                     \
    {                                                                                  \
        .name = NULL                                                                   \
    }

/** Step through a table with its nested sets, depth first; @p offset is the field's in
 * the outermost struct. Start with a zeroed iterator and .stack[0].row = table. */
typedef struct ws_opt_iter {
    struct {
        const ws_opt *row;
        size_t base;
    } stack[4];
    int depth;
} ws_opt_iter;

/** The next row that is an option, NULL at the end. @p table may be NULL. */
ws_opt_iter ws_opt_begin(const ws_opt *table);
const ws_opt *ws_opt_next(ws_opt_iter *it, size_t *offset);

/** Whether options of this kind need a value. */
bool ws_opt_takes_value(const ws_opt *o);

/** Default of @p o as text, "" when none is worth showing. */
void ws_opt_default_text(const ws_opt *o, char *out, size_t size);

/** Length of word @p i in "a|b|c" and its start; NULL past the last. */
const char *ws_word_at(const char *words, int i, size_t *len);

/** Index of @p text among @p words ('-' equal to '_'), -1 when it is none of them. */
int ws_word_find(const char *words, const char *text);

/** Where one parsed struct lives: a table and the object its offsets count from. */
typedef struct ws_opt_target {
    const ws_opt *table;
    void *object;
} ws_opt_target;

typedef struct ws_parse {
    ws_opt_target target[2]; /**< the command's options, then the global ones */
    const ws_arg *args;      /**< positionals; may be NULL */
    ws_arena *arena;
    ws_diag *errors;
    int argc;
    const char *const
        *argv;           /**< all arguments; those of .skip are the command's name */
    int skip[2];         /**< indexes into argv, -1: none */
    bool uncertain;      /**< out: what was meant by some argument is unknown, so more
                       complaints could be wrong */
    bool pasted;         /**< a hint has given the whole line in our spelling */
    const char *command; /**< for hints ready to paste: "merge" */
} ws_parse;

/** Set every field to its default; both targets. */
void ws_opts_defaults(const ws_opt_target *t);

/** Read the arguments into the targets. Every mistake found is added to p->errors. */
void ws_opts_parse(ws_parse *p);

/** Index of the first argument that is no option (nor value of one in @p table) from
 * @p from on, or argc. */
int ws_opts_first_word(const ws_opt *table, int argc, const char *const *argv,
                       int from);

#endif
