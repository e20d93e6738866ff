/*
 * report.c - what a run says: data on stdout, talk on stderr, one JSON document
 */
#include "report.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "progress.h"
#include "wsurg/spool.h"
#include "wsurg/text.h"
#include "wsurg/wsurg.h"

enum { COLOR_AUTO, COLOR_ALWAYS, COLOR_NEVER };

/** How this run shows what it says. */
struct ws_voice {
    ws_meter meter;
    bool color;
    bool json_stdout; /**< the document goes to standard output */
    int status;       /**< errno of the first failed write to stdout */
};

/* ---- lines on stderr ---- */

static bool is_note(const ws_err *e)
{
    return e->tag && strcmp(e->tag, "note") == 0;
}

/** "wsurg: WORD: text", the word in its colour. */
static void line(ws_run *run, const char *word, int color, const char *text)
{
    if (run->voice)
        ws_meter_clear(&run->voice->meter);
    if (run->voice && run->voice->color)
        fprintf(stderr, "\033[1mwsurg:\033[0m \033[1;%dm%s:\033[0m %s\n", color, word,
                text);
    else
        fprintf(stderr, "wsurg: %s: %s\n", word, text);
}

static void report_line(ws_run *run, const ws_err *e, const char *word, int color)
{
    char text[2048], hint[1024];
    ws_err typed = *e;

    snprintf(typed.path, sizeof typed.path, "%s", ws_spool_shown(e->path));
    ws_err_format(&typed, text, sizeof text);
    line(run, word, color, text);
    if (e->hint[0]) {
        ws_show(e->hint, hint, sizeof hint);
        line(run, "hint", 32, hint);
    }
}

void ws_run_flush(ws_run *run)
{
    for (; run->shown < run->warnings.n; run->shown++) {
        const ws_err *w = &run->warnings.items[run->shown];

        if (is_note(w) && run->g.quiet.n < 1)
            report_line(run, w, "note", 36);
        else if (!is_note(w) && run->g.quiet.n < 2)
            report_line(run, w, "warning", 33);
    }
}

void ws_run_talk(ws_run *run, const char *fmt, ...)
{
    va_list ap;

    if (run->g.quiet.n)
        return;
    if (run->voice)
        ws_meter_clear(&run->voice->meter);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
}

void ws_run_row(ws_run *run, int width, const char *label, const char *fmt, ...)
{
    char text[1024];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    ws_run_talk(run, "%-*s%s", width, label, text);
}

/* ---- gathering ---- */

/** Append a report with a text from varargs; WS_OK for warnings and notes. */
static __attribute__((format(printf, 4, 0))) ws_err *
gather(ws_diag *to, ws_status code, const char *tag, const char *fmt, va_list ap)
{
    char msg[sizeof((ws_err *)0)->msg];

    vsnprintf(msg, sizeof msg, fmt, ap);
    return ws_diag_report(to, code, tag, "%s", msg);
}

ws_err *ws_run_note(ws_run *run, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    ws_err *e = gather(&run->warnings, WS_OK, "note", fmt, ap);
    va_end(ap);
    return e;
}

ws_err *ws_run_warn(ws_run *run, const char *tag, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    ws_err *e = gather(&run->warnings, WS_OK, tag, fmt, ap);
    va_end(ap);
    return e;
}

ws_err *ws_run_error(ws_run *run, ws_status code, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    ws_err *e = gather(&run->errors, code, NULL, fmt, ap);
    va_end(ap);
    return e;
}

ws_status ws_run_fail(ws_run *run, const ws_err *err)
{
    ws_diag_add(&run->errors, err);
    return err->code;
}

ws_status ws_run_strict(ws_run *run)
{
    ws_status st = WS_OK;

    for (size_t i = 0; run->g.strict && i < run->warnings.n; i++) {
        ws_err e = run->warnings.items[i];

        if (is_note(&e))
            continue;
        e.code = st = WS_E_STRICT;
        e.tag = NULL;
        ws_diag_add(&run->errors, &e);
    }
    if (st)
        run->shown = run->warnings.n; // said as errors
    return st;
}

/* ---- data on stdout ---- */

void ws_run_print(ws_run *run, const char *fmt, ...)
{
    va_list ap;

    if (run->voice && run->voice->json_stdout)
        return;
    va_start(ap, fmt);
    if (vprintf(fmt, ap) < 0 && run->voice && !run->voice->status)
        run->voice->status = errno;
    va_end(ap);
}

void ws_run_put(ws_run *run, const char *text, size_t n)
{
    const bool terminal = isatty(STDOUT_FILENO);
    bool lost = false;

    if (run->voice && run->voice->json_stdout)
        return;
    for (size_t i = 0; i < n; i++) {
        const bool control =
            (text[i] >= 0 && text[i] < ' ' && text[i] != '\n' && text[i] != '\t') ||
            text[i] == 0x7f;
        lost =
            putchar(terminal && control ? '?' : (unsigned char)text[i]) == EOF || lost;
    }
    lost = fflush(stdout) != 0 || lost;
    if (lost && run->voice && !run->voice->status)
        run->voice->status = errno;
}

/* ---- JSON values ---- */

#define NO_MEMORY                                                                      \
    "{\"code\":\"memory\",\"message\":\"out of memory\",\"path\":null,"                \
    "\"tensor\":null,\"offset\":null,\"hint\":null}"

static bool json_lost; /**< a value found no memory: the document is not whole */

static void *json_alloc(size_t n)
{
    void *p = ws_alloc(n);

    json_lost = json_lost || !p;
    return p;
}

static void put(cJSON *to, const char *key, cJSON *item)
{
    if (key)
        cJSON_AddItemToObject(to, key, item);
    else
        cJSON_AddItemToArray(to, item);
}

void ws_j_null(cJSON *to, const char *key)
{
    put(to, key, cJSON_CreateNull());
}

void ws_j_str(cJSON *to, const char *key, const char *s)
{
    char shown[4096];

    if (!s) {
        ws_j_null(to, key);
        return;
    }
    if (!ws_utf8_valid(s, strlen(s))) { // JSON is UTF-8 whatever a path is
        ws_show(s, shown, sizeof shown);
        s = shown;
    }
    put(to, key, cJSON_CreateString(s));
}

void ws_j_num(cJSON *to, const char *key, double v)
{
    char num[32];

    if (!isfinite(v)) {
        ws_j_null(to, key);
        return;
    }
    ws_show_num(v, num);
    put(to, key, cJSON_CreateRaw(num));
}

void ws_j_u64(cJSON *to, const char *key, uint64_t v)
{
    char num[32];

    snprintf(num, sizeof num, "%llu", (unsigned long long)v);
    put(to, key, cJSON_CreateRaw(num));
}

void ws_j_bool(cJSON *to, const char *key, bool v)
{
    put(to, key, cJSON_CreateBool(v));
}

cJSON *ws_j_obj(cJSON *to, const char *key)
{
    cJSON *item = cJSON_CreateObject();

    put(to, key, item);
    return item;
}

cJSON *ws_j_arr(cJSON *to, const char *key)
{
    cJSON *item = cJSON_CreateArray();

    put(to, key, item);
    return item;
}

cJSON *ws_run_result(ws_run *run)
{
    if (!run->result)
        run->result = cJSON_CreateObject();
    return run->result;
}

/* ---- the document ---- */

static void err_json(cJSON *to, const char *key, const ws_err *e)
{
    cJSON *o = ws_j_obj(to, key);
    const char *code = e->code ? ws_status_code(e->code) : "warning";

    ws_j_str(o, "code", e->tag ? e->tag : code);
    ws_j_str(o, "message", e->msg);
    ws_j_str(o, "path", e->path[0] ? ws_spool_shown(e->path) : NULL);
    ws_j_str(o, "tensor", e->tensor[0] ? e->tensor : NULL);
    if (e->offset >= 0)
        ws_j_u64(o, "offset", (uint64_t)e->offset);
    else
        ws_j_null(o, "offset");
    ws_j_str(o, "hint", e->hint[0] ? e->hint : NULL);
}

static const char *status_word(const ws_run *run)
{
    const ws_err *worst = ws_diag_worst(&run->errors);

    if (worst)
        return worst->code == WS_E_INTERRUPTED ? "interrupted" : "error";
    if (run->errors.lost)
        return "error";
    return run->no ? "no" : run->unchanged ? "unchanged" : "ok";
}

static cJSON *envelope(ws_run *run, int exit_status)
{
    cJSON *doc = cJSON_CreateObject();
    const ws_err *worst = ws_diag_worst(&run->errors);

    ws_j_str(doc, "schema", "wsurg/1");
    ws_j_str(doc, "version", ws_version());
    ws_j_str(doc, "command", run->command);
    ws_j_str(doc, "status", status_word(run));
    ws_j_u64(doc, "exit", (uint64_t)exit_status);
    if (worst)
        err_json(doc, "error", worst);
    else
        ws_j_null(doc, "error");
    cJSON *list = ws_j_arr(doc, "errors");
    for (size_t i = 0; i < run->errors.n; i++)
        err_json(list, NULL, &run->errors.items[i]);
    list = ws_j_arr(doc, "warnings");
    for (size_t i = 0; i < run->warnings.n; i++)
        if (!is_note(&run->warnings.items[i]))
            err_json(list, NULL, &run->warnings.items[i]);
    put(doc, "result", run->result ? run->result : cJSON_CreateNull());
    run->result = NULL;
    if (!run->has_usage) {
        ws_j_null(doc, "run");
        return doc;
    }
    cJSON *u = ws_j_obj(doc, "run");
    ws_j_num(u, "seconds", run->usage.seconds);
    ws_j_u64(u, "threads", (uint64_t)run->usage.threads);
    ws_j_u64(u, "peak_memory_bytes", run->usage.peak_memory);
    ws_j_u64(u, "read_bytes", run->usage.read_bytes);
    ws_j_u64(u, "written_bytes", run->usage.written_bytes);
    return doc;
}

/** Whether --json=FILE may be written: it is new, empty, one of ours, or no plain file
 * (a pipe). */
static bool json_file_free(const char *path)
{
    static const char ours[] = "{\"schema\":\"wsurg/";
    char head[sizeof ours] = "";
    struct stat sb;

    if (stat(path, &sb) || !S_ISREG(sb.st_mode) || sb.st_size == 0)
        return true;
    FILE *f = fopen(path, "rb");
    if (!f)
        return false;
    const size_t n = fread(head, 1, sizeof ours - 1, f);
    fclose(f);
    return n == sizeof ours - 1 && memcmp(head, ours, n) == 0;
}

/** A document for when there is no memory for one. */
static const char no_memory[] =
    "{\"schema\":\"wsurg/1\",\"version\":\"%s\",\"command\":null,\"status\":\"error\","
    "\"exit\":4,\"error\":" NO_MEMORY ",\"errors\":[" NO_MEMORY "],\"warnings\":[],"
    "\"result\":null,\"run\":null}\n";

/** Write the document where --json wants it; 0, or the errno. */
static int document_write(ws_run *run, int exit_status)
{
    const char *path = run->g.json.value;
    cJSON *doc = envelope(run, exit_status);
    char *text = cJSON_PrintUnformatted(doc);
    FILE *f = path ? fopen(path, "wb") : stdout;
    int sys = f ? 0 : errno;

    cJSON_Delete(doc);
    if (f && json_lost) {
        fprintf(f, no_memory, ws_version());
        sys = ENOMEM;
    } else if (f && fprintf(f, "%s\n", text) < 0) {
        sys = errno;
    }
    if (f && path && fclose(f) && !sys)
        sys = errno;
    cJSON_free(text);
    return sys;
}

/* ---- begin and end ---- */

void ws_run_used(ws_run *run, double began, uint64_t read_bytes)
{
    ws_usage_take(&run->usage, began, &run->ctx);
    run->usage.read_bytes = read_bytes;
    run->has_usage = true;
}

void ws_run_begin(ws_run *run)
{
    static struct ws_voice voice;
    // NOLINTNEXTLINE(concurrency-mt-unsafe): before there is another thread
    const char *term = getenv("TERM"), *no_color = getenv("NO_COLOR");
    const bool tty = isatty(STDERR_FILENO) && !(term && strcmp(term, "dumb") == 0);

    voice = (struct ws_voice){ 0 };
    cJSON_InitHooks(&(cJSON_Hooks){ .malloc_fn = json_alloc, .free_fn = ws_free });
    run->voice = &voice;
    voice.color = run->g.color.index == COLOR_ALWAYS ||
                  (run->g.color.index == COLOR_AUTO && tty && !(no_color && *no_color));
    voice.json_stdout = run->g.json.given && !run->g.json.value;
    voice.meter.mode = (ws_meter_mode)run->g.progress.index;
    if (voice.meter.mode == WS_METER_AUTO)
        voice.meter.mode = tty ? WS_METER_BAR : WS_METER_PLAIN;
    if (run->g.quiet.n && voice.meter.mode != WS_METER_JSON)
        voice.meter.mode = WS_METER_NONE;
    run->ctx.threads = (int)run->g.threads;
    run->ctx.max_memory = run->g.max_memory;
    run->ctx.max_disk = run->g.max_disk;
    run->ctx.strict = run->g.strict;
    run->ctx.warnings = &run->warnings;
    if (voice.meter.mode != WS_METER_NONE) {
        run->ctx.progress = ws_meter_update;
        run->ctx.payload = &voice.meter;
    }
    const char *json = run->g.json.value;
    if (json && !json_file_free(json)) {
        ws_err *e =
            ws_run_error(run, WS_E_EXISTS, "'%s' exists and is no wsurg report", json);
        ws_err_hint(e, "name another file for --json=FILE");
        run->g.json.value = NULL;
        voice.json_stdout = true;
    }
}

/** Whether work that --resume can finish lies beside the target (.NAME.wsurg/). */
static bool work_kept(ws_run *run)
{
    struct stat sb;
    char path[4096];

    if (!run->target)
        return false;
    const size_t n = ws_folder_length(run->target);
    const size_t name = strcspn(run->target + n, "/");
    // staged work, or checkpoints of a training run
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%.*s.%.*s.%s", (int)n, run->target, (int)name,
                 run->target + n, i ? "tune" : "wsurg");
        if (stat(path, &sb) == 0 && S_ISDIR(sb.st_mode))
            return true;
    }
    return false;
}

/** Exit status of the run; *sig is the signal to die of, or 0. */
static int exit_status(ws_run *run, int *sig)
{
    const ws_err *worst = ws_diag_worst(&run->errors);

    *sig = 0;
    if (!worst && run->errors.lost)
        return ws_status_exit(WS_E_MEMORY);
    if (!worst)
        return run->no ? 1 : 0;
    if (worst->code != WS_E_INTERRUPTED)
        return ws_status_exit(worst->code);
    const int stop = run->ctx.stop ? atomic_load(run->ctx.stop) : 0;
    if (stop == SIGINT) {
        *sig = SIGINT;
        return 130;
    }
    if (work_kept(run)) {
        ws_err_hint(&run->errors.items[worst - run->errors.items],
                    "the same command with --resume goes on from here");
        return ws_status_exit(WS_E_INTERRUPTED);
    }
    *sig = stop == SIGTERM ? SIGTERM : 0;
    return stop == SIGTERM ? 143 : ws_status_exit(WS_E_INTERRUPTED);
}

static void errors_print(ws_run *run)
{
    for (size_t i = 0; i < run->errors.n; i++)
        report_line(run, &run->errors.items[i], "error", 31);
    if (run->errors.lost)
        line(run, "error", 31, "out of memory: more errors could not be kept");
}

int ws_run_end(ws_run *run)
{
    int sig, sys = 0, status;

    if (run->voice)
        ws_meter_clear(&run->voice->meter);
    ws_run_flush(run);
    if (fflush(stdout) && run->voice && !run->voice->status)
        run->voice->status = errno;
    if (run->voice && run->voice->status && !run->errors.n) {
        ws_err e = WS_ERR_INIT;
        ws_fail_sys(&e, WS_E_IO, run->voice->status, "cannot write standard output");
        ws_run_fail(run, &e);
    }
    status = exit_status(run, &sig);
    // A reader that has seen enough (| head) needs no line about it.
    if (!(run->voice && run->voice->status == EPIPE))
        errors_print(run);
    if (run->g.json.given)
        sys = document_write(run, status);
    if (!sys && fflush(stdout) && run->g.json.given)
        sys = errno;
    if (sys) {
        ws_err e = WS_ERR_INIT;
        ws_fail_sys(&e, WS_E_IO, sys, "cannot write the report");
        ws_err_at(&e, run->g.json.value, NULL, -1);
        report_line(run, &e, "error", 31);
        if (!status)
            status = ws_status_exit(sys == ENOMEM ? WS_E_MEMORY : WS_E_IO);
    }
    cJSON_Delete(run->result);
    ws_diag_free(&run->errors);
    ws_diag_free(&run->warnings);
    ws_arena_free(&run->arena);
    if (sig) { // so that the caller's loop stops too
        signal(sig, SIG_DFL);
        raise(sig);
    }
    return status;
}

size_t ws_worst_find(size_t n, double (*value)(const void *arg, size_t i),
                     const void *arg, size_t index[WS_WORST])
{
    double found[WS_WORST];
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        const double x = value(arg, i);
        size_t at = k;
        while (at > 0 && found[at - 1] < x)
            at--;
        if (isnan(x) || at == WS_WORST)
            continue;
        const size_t last = k < WS_WORST ? k++ : WS_WORST - 1;
        memmove(&found[at + 1], &found[at], (last - at) * sizeof *found);
        memmove(&index[at + 1], &index[at], (last - at) * sizeof *index);
        found[at] = x;
        index[at] = i;
    }
    return k;
}
