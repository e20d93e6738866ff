/*
 * tune_state.c - checkpoints of a run, from which it goes on bit for bit
 *
 *   .NAME.tune/lock                held while a run is alive
 *   .NAME.tune/step-N/state.json   counters, losses, key of the request
 *   .NAME.tune/step-N/optim.safetensors
 *                                  p.TENSOR, m.TENSOR, v.TENSOR in float32
 *   .NAME.tune/best-N.safetensors  p.TENSOR of the best validation
 *
 * The place in the data and all random numbers follow from the number of steps. A
 * checkpoint is written under another name, synced and renamed; then the one before it
 * goes.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json.h"
#include "base/os.h"
#include "ckpt/st_write.h"
#include "train/tune.h"
#include "wsurg/text.h"

enum { STATE_CAP = 1 << 16, PATH_LEN = 4096 };

static void path_make(const ws_tune *t, char out[PATH_LEN], const char *name,
                      int64_t step, const char *end)
{
    if (step < 0)
        snprintf(out, PATH_LEN, "%s/%s%s", t->folder, name, end);
    else
        snprintf(out, PATH_LEN, "%s/%s-%lld%s", t->folder, name, (long long)step, end);
}

static ws_status failed(const char *path, int sys, ws_err *err)
{
    ws_fail_sys(err, WS_E_IO, sys, "cannot write a checkpoint");
    ws_err_at(err, path, NULL, -1);
    return WS_E_IO;
}

/* ---- files ---- */

/** A new file of these parts, one after another, synced. */
struct part {
    const void *data;
    size_t n;
};

static ws_status file_write(const char *path, const struct part *parts, size_t n,
                            ws_err *err)
{
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    uint64_t at = 0;
    ws_status st = fd < 0 ? failed(path, errno, err) : WS_OK;

    for (size_t i = 0; st == WS_OK && i < n; i++) {
        st = ws_os_pwrite(fd, path, parts[i].data, parts[i].n, at, err);
        at += parts[i].n;
    }
    if (st == WS_OK && fsync(fd) != 0)
        st = failed(path, errno, err);
    if (fd >= 0 && close(fd) != 0 && st == WS_OK)
        st = failed(path, errno, err);
    return st;
}

/** What is kept of slot @p k: number 0 p, 1 m, 2 v. NULL: it has none. */
static float *kept(const ws_slot_f32 *s, int which)
{
    return which == 0 ? s->p : which == 1 ? s->m : s->v;
}

static const char *kept_name(ws_arena *arena, const ws_slot_f32 *s, int which)
{
    const size_t n = strlen(s->name) + 3;
    char *name = ws_arena_alloc(arena, n);
    if (name != NULL)
        snprintf(name, n, "%c.%s", "pmv"[which], s -> name);
    return name;
}

/** The first @p kinds of p, m, v of all slots, as a safetensors file. */
static ws_status tensors_write(const ws_tune *t, const char *path, int kinds,
                               ws_err *err)
{
    const size_t most = t->n_slots * (size_t)kinds + 1;
    ws_arena a = { 0 };
    ws_tensor *list = ws_arena_calloc(&a, most, sizeof *list);
    ws_tensor **sorted = ws_arena_calloc(&a, most, sizeof *sorted);
    uint64_t *shape = ws_arena_calloc(&a, most, sizeof *shape);
    struct part *parts = ws_arena_calloc(&a, most + 1, sizeof *parts);
    uint8_t *header = NULL;
    uint64_t len = 0;
    size_t n = 0;
    ws_status st = WS_OK;

    if (list == NULL || sorted == NULL || shape == NULL || parts == NULL)
        st = ws_fail(err, WS_E_MEMORY, "no memory for a checkpoint");
    for (size_t k = 0; st == WS_OK && k < t->n_slots; k++)
        for (int w = 0; w < kinds && kept(&t->slots[k], w) != NULL; w++, n++) {
            shape[n] = t->slots[k].n;
            list[n] = (ws_tensor){ .name = kept_name(&a, &t->slots[k], w),
                                   .dtype = WS_DT_F32,
                                   .rank = 1,
                                   .shape = &shape[n],
                                   .n_elements = shape[n],
                                   .n_bytes = shape[n] * sizeof(float),
                                   .offset = k * 4 + (size_t)w };
            sorted[n] = &list[n];
            if (list[n].name == NULL)
                st = ws_fail(err, WS_E_MEMORY, "no memory for a checkpoint");
        }
    if (st == WS_OK) {
        qsort(sorted, n, sizeof *sorted, ws_st_order);
        for (size_t i = 0; i < n; i++) // where the data are, before offsets are set
            parts[i + 1] = (struct part){ kept(&t->slots[sorted[i]->offset / 4],
                                               (int)(sorted[i]->offset % 4)),
                                          (size_t)sorted[i]->n_bytes };
        st = ws_st_header(&header, &len, sorted, n, NULL, 0, err);
    }
    parts = st == WS_OK ? parts : NULL;
    if (parts != NULL) {
        parts[0] = (struct part){ header, (size_t)len };
        st = file_write(path, parts, n + 1, err);
    }
    ws_free(header);
    ws_arena_free(&a);
    return st;
}

static ws_status tensors_read(const ws_tune *t, const char *path, int kinds,
                              ws_err *err)
{
    ws_ckpt *c = NULL;
    ws_arena a = { 0 };
    ws_status st = ws_ckpt_open(&c, path, NULL, err);

    for (size_t k = 0; st == WS_OK && k < t->n_slots; k++)
        for (int w = 0; st == WS_OK && w < kinds && kept(&t->slots[k], w); w++) {
            const ws_slot_f32 *s = &t->slots[k];
            const char *name = kept_name(&a, s, w);
            const ws_tensor *x = name != NULL ? ws_ckpt_find(c, name) : NULL;
            if (x == NULL || x->dtype != WS_DT_F32 || x->n_elements != s->n) {
                st = ws_fail(err, WS_E_HEADER, "the checkpoint is not of this run");
                ws_err_at(err, path, s->name, -1);
            } else {
                st = ws_ckpt_read(c, x, 0, x->n_bytes, kept(s, w), err);
            }
        }
    ws_ckpt_free(c);
    ws_arena_free(&a);
    return st;
}

/* ---- the folder ---- */

/** The folder, made and locked on the first use. */
static ws_status folder_take(ws_tune *t, ws_err *err)
{
    char path[PATH_LEN];
    struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

    if (t->lock >= 0)
        return WS_OK;
    if (mkdir(t->folder, 0777) != 0 && errno != EEXIST)
        return failed(t->folder, errno, err);
    path_make(t, path, "lock", -1, "");
    t->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (t->lock < 0)
        return failed(path, errno, err);
    if (fcntl(t->lock, F_SETLK, &l) == 0)
        return WS_OK;
    close(t->lock);
    t->lock = -1;
    ws_fail(err, WS_E_LOCKED, "another run is training this output");
    return ws_err_at(err, t->req->write.out, NULL, -1);
}

/** Number N of "STEM-N" in the folder, the largest; -1: none. */
static int64_t newest(const ws_tune *t, const char *stem)
{
    DIR *d = opendir(t->folder);
    int64_t most = -1;
    const size_t n = strlen(stem);

    for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;)
        if (strncmp(e->d_name, stem, n) == 0 && e->d_name[n] == '-') {
            char *end;
            const long long k = strtoll(e->d_name + n + 1, &end, 10);
            if (*end == '\0' && k > most)
                most = k;
        }
    if (d != NULL)
        closedir(d);
    return most;
}

/** Remove everything but the lock, checkpoint @p step and best @p best. */
static ws_status sweep(const ws_tune *t, int64_t step, int64_t best, ws_err *err)
{
    char keep[2][64], path[PATH_LEN];
    DIR *d = opendir(t->folder);
    ws_status st = WS_OK;

    snprintf(keep[0], sizeof keep[0], "step-%lld", (long long)step);
    snprintf(keep[1], sizeof keep[1], "best-%lld.safetensors", (long long)best);
    for (struct dirent *e; d != NULL && st == WS_OK && (e = readdir(d)) != NULL;) {
        if (strcmp(e->d_name, keep[0]) == 0 || strcmp(e->d_name, keep[1]) == 0 ||
            strcmp(e->d_name, "lock") == 0 || e->d_name[0] == '.')
            continue;
        path_make(t, path, e->d_name, -1, "");
        st = ws_os_remove_tree(path, err);
    }
    if (d != NULL)
        closedir(d);
    return st;
}

/* ---- state.json ---- */

static void state_text(const ws_tune *t, ws_buf *b)
{
    ws_buf_printf(b,
                  "{\n  \"schema\": \"wsurg-tune/1\",\n  \"key\": \"%s\",\n"
                  "  \"step\": %lld,\n  \"tokens\": %llu,\n  \"loss_first\": %.17g,\n"
                  "  \"loss_last\": %.17g,\n  \"best_step\": %lld,\n"
                  "  \"best_loss\": %.17g,\n  \"worse\": %lld\n}\n",
                  t->key, (long long)t->done, (unsigned long long)t->tokens,
                  t->loss_first, t->loss_last, (long long)t->best_step, t->best_loss,
                  (long long)t->worse);
}

static bool number(const cJSON *o, const char *key, double *out)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);
    if (!cJSON_IsNumber(v))
        return false;
    *out = v->valuedouble;
    return true;
}

/** *mine: the checkpoint is of the same request. */
static ws_status state_read(ws_tune *t, const char *path, bool *mine, ws_err *err)
{
    cJSON *o = NULL;
    double step, tokens, first, last, best, best_loss, worse;
    ws_status st = ws_json_read(&o, path, STATE_CAP, err);

    if (st)
        return st;
    const cJSON *key = cJSON_GetObjectItemCaseSensitive(o, "key");
    *mine = cJSON_IsString(key) && strcmp(key->valuestring, t->key) == 0;
    if (!number(o, "step", &step) || !number(o, "tokens", &tokens) ||
        !number(o, "loss_first", &first) || !number(o, "loss_last", &last) ||
        !number(o, "best_step", &best) || !number(o, "best_loss", &best_loss) ||
        !number(o, "worse", &worse)) {
        st = ws_fail(err, WS_E_HEADER, "not the state of a run");
        ws_err_at(err, path, NULL, -1);
    } else if (*mine) {
        t->done = (int64_t)step;
        t->tokens = (uint64_t)tokens;
        t->loss_first = first;
        t->loss_last = last;
        t->best_step = (int64_t)best;
        t->best_loss = best_loss;
        t->worse = (int64_t)worse;
    }
    cJSON_Delete(o);
    return st;
}

/* ---- the interface ---- */

static ws_status resume(ws_tune *t, int64_t step, ws_err *err)
{
    char path[PATH_LEN];
    bool mine = false;

    path_make(t, path, "step", step, "/state.json");
    ws_status st = state_read(t, path, &mine, err);
    if (st == WS_OK && !mine) {
        ws_diag_report(t->ctx->warnings, WS_OK, "note",
                       "the checkpoint is of another request: the run starts over");
        return sweep(t, -1, -1, err);
    }
    path_make(t, path, "step", step, "/optim.safetensors");
    return st == WS_OK ? tensors_read(t, path, 3, err) : st;
}

ws_status ws_tune_state_open(ws_tune *t, ws_err *err)
{
    struct stat sb;

    if (stat(t->folder, &sb) != 0) {
        if (t->req->write.resume)
            ws_diag_report(t->ctx->warnings, WS_OK, "note",
                           "there is no checkpoint to go on from: the run starts");
        return WS_OK;
    }
    ws_status st = folder_take(t, err);
    if (st)
        return st;
    const int64_t step = newest(t, "step");
    if (t->req->write.resume && step >= 0)
        return resume(t, step, err);
    if (step >= 0)
        ws_diag_report(t->ctx->warnings, WS_OK, "note",
                       "the checkpoint of step %lld is discarded (--resume goes on "
                       "from it)",
                       (long long)step);
    return sweep(t, -1, -1, err);
}

ws_status ws_tune_state_save(ws_tune *t, ws_err *err)
{
    char part[PATH_LEN], path[PATH_LEN], whole[PATH_LEN];
    ws_buf b = { 0 };
    ws_status st = folder_take(t, err);

    if (st || newest(t, "step") == t->done)
        return st;
    path_make(t, part, "part", t->done, "");
    path_make(t, whole, "step", t->done, "");
    if (mkdir(part, 0777) != 0 && errno != EEXIST)
        return failed(part, errno, err);
    path_make(t, path, "part", t->done, "/optim.safetensors");
    st = tensors_write(t, path, 3, err);
    path_make(t, path, "part", t->done, "/state.json");
    state_text(t, &b);
    if (st == WS_OK && b.failed)
        st = ws_fail(err, WS_E_MEMORY, "no memory for a checkpoint");
    if (st == WS_OK)
        st = file_write(path, &(struct part){ b.p, b.n }, 1, err);
    ws_buf_free(&b);
    if (st == WS_OK)
        st = ws_os_sync_dir(part, err);
    if (st == WS_OK && rename(part, whole) != 0)
        st = failed(whole, errno, err);
    if (st == WS_OK)
        st = ws_os_sync_dir(t->folder, err);
    return st == WS_OK ? sweep(t, t->done, t->best_step, err) : st;
}

ws_status ws_tune_best_save(ws_tune *t, ws_err *err)
{
    char part[PATH_LEN], path[PATH_LEN];
    ws_status st = folder_take(t, err);

    path_make(t, part, "part", t->best_step, ".safetensors");
    path_make(t, path, "best", t->best_step, ".safetensors");
    if (st == WS_OK)
        st = tensors_write(t, part, 1, err);
    if (st == WS_OK && rename(part, path) != 0)
        st = failed(path, errno, err);
    return st;
}

ws_status ws_tune_best_load(ws_tune *t, ws_err *err)
{
    char path[PATH_LEN];

    path_make(t, path, "best", t->best_step, ".safetensors");
    return tensors_read(t, path, 1, err);
}

bool ws_tune_state_kept(const ws_tune *t)
{
    return t->lock >= 0 && newest(t, "step") >= 0;
}

void ws_tune_state_close(ws_tune *t, bool keep)
{
    if (t->lock < 0)
        return;
    if (!keep)
        (void)ws_os_remove_tree(t->folder, NULL);
    close(t->lock);
    t->lock = -1;
}
