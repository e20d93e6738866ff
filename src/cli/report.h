/*
 * report.h - what a run says: data on stdout, talk on stderr, one JSON document
 *
 * A command prints its data for people with ws_run_print() and builds the same data as
 * run->result; when --json owns standard output, the former prints nothing.
 *
 * Warnings of the library gather in run->warnings; those tagged "note" are notes.
 */
#ifndef WS_CLI_REPORT_H
#define WS_CLI_REPORT_H

#include "cmd.h"

/** A line or part of a line of data on stdout; nothing when JSON goes there. */
void ws_run_print(ws_run *run, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/** Bytes of data on stdout at once, as ws_run_print(). On a terminal control characters
 * other than line ends and tabulators become '?'. */
void ws_run_put(ws_run *run, const char *text, size_t n);

/** A line of the summary on stderr (newline added); nothing under -q. */
void ws_run_talk(ws_run *run, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/** Remember a note, or a warning with the word @p tag for the JSON; printed by
 * ws_run_flush(). Returns the item for ws_err_at() and ws_err_hint(), NULL if lost. */
ws_err *ws_run_note(ws_run *run, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
ws_err *ws_run_warn(ws_run *run, const char *tag, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/** Report a failure of the library; returns its code. */
ws_status ws_run_fail(ws_run *run, const ws_err *err);

/** Report a mistake; returns the item for a hint, NULL if lost. */
ws_err *ws_run_error(ws_run *run, ws_status code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/** Print the warnings and notes gathered since the last call. */
void ws_run_flush(ws_run *run);

/** Under --strict, turn the warnings so far into errors: WS_E_STRICT when there are
 * any. To be called between planning and writing. */
ws_status ws_run_strict(ws_run *run);

/** Take what the run has cost until now for the JSON document; @p began as
 * ws_usage_begin() gave it. */
void ws_run_used(ws_run *run, double began, uint64_t read_bytes);

/** Connect colour, progress and context with the options; before a command runs. */
void ws_run_begin(ws_run *run);

/** Print errors, the JSON document, close everything; the process's exit status. */
int ws_run_end(ws_run *run);

/** The last few lines of a run's talk: columns of equal width. @p label is padded to
 * @p width. */
void ws_run_row(ws_run *run, int width, const char *label, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* JSON, in the order of the calls; into an object, or with key NULL onto an array.
 * Unknown texts (NULL) and numbers that are not finite become null. */
void ws_j_str(cJSON *to, const char *key, const char *s);
void ws_j_num(cJSON *to, const char *key, double v);
void ws_j_u64(cJSON *to, const char *key, uint64_t v);
void ws_j_bool(cJSON *to, const char *key, bool v);
void ws_j_null(cJSON *to, const char *key);
cJSON *ws_j_obj(cJSON *to, const char *key);
cJSON *ws_j_arr(cJSON *to, const char *key);

/** run->result as an empty object, made on the first call. */
cJSON *ws_run_result(ws_run *run);

/** "12.3 %" of a share with this many decimals; two digits when it is tiny; "?" when
 * it is not finite. */
void ws_show_share(double share, int decimals, char out[24]);

/** A number in the shortest form that reads back the same: "0.15", "1e-06". */
void ws_show_num(double v, char out[32]);

/** Text for a shell, quoted when it needs to be; added to @p out of @p size bytes. */
void ws_show_quoted(const char *s, char *out, size_t size);

/** Bytes of the folder part of a path, its slash included: 4 of "dir/b.st" and of
 * "dir/b/". */
size_t ws_folder_length(const char *path);

/** The last part of a path without trailing slashes: "b.st" of "dir/b.st". Arena's. */
const char *ws_base_name(ws_arena *arena, const char *path);

/** How many a "worst" list holds. */
enum { WS_WORST = 10 };

/**
 * The items of the largest values, largest first and of equal ones the first.
 * @param value  of item i of @p arg; NaN: it is not listed
 * @param index  out
 * @return how many there are, at most WS_WORST
 */
size_t ws_worst_find(size_t n, double (*value)(const void *arg, size_t i),
                     const void *arg, size_t index[WS_WORST]);

#endif
