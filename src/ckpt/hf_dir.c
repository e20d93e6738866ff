/*
 * hf_dir.c - Hugging Face model directories: one file, or shards with their index
 *
 * What readers disagree on is refused: a single file beside an index, names that stand
 * in the index and not in the shards, or the other way round. PyTorch's files are
 * opened only where there are no safetensors. Links are followed, because the hub's
 * cache is made of them; what they lead to must be a regular file.
 */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "ckpt/archive.h"
#include "ckpt/ckpt_internal.h"
#include "wsurg/text.h"

#define SINGLE    "model.safetensors"
#define INDEX     "model.safetensors.index.json"
#define BIN       "pytorch_model.bin"
#define BIN_INDEX "pytorch_model.bin.index.json"
#define CONFIG    "config.json"
#define ADAPTER   "adapter_config.json"

enum { MAX_INDEX = 64 << 20, MAX_CONFIG = 16 << 20, NAME_SIZE = 256 };

/** What lies in a directory. Names are the first of their kind in byte order. */
struct listing {
    bool single, index, bin, bin_index, adapter;
    size_t n_other; // safetensors files of other names
    char other[NAME_SIZE], shard[NAME_SIZE], pickle[NAME_SIZE], gguf[NAME_SIZE];
    char unfinished[NAME_SIZE];
};

static bool ends_in(const char *name, const char *end)
{
    const size_t n = strlen(name), k = strlen(end);
    return n > k && strcmp(name + n - k, end) == 0;
}

/** Whether @p name is model-00001-of-00002.safetensors. */
static bool is_shard_name(const char *name)
{
    static const char form[] = "model-#####-of-#####.safetensors";
    if (strlen(name) != sizeof form - 1)
        return false;
    for (size_t i = 0; form[i] != '\0'; i++)
        if (form[i] == '#' ? name[i] < '0' || name[i] > '9' : name[i] != form[i])
            return false;
    return true;
}

static void keep_first(char kept[NAME_SIZE], const char *name)
{
    const size_t n = strlen(name);
    if (n < NAME_SIZE && (kept[0] == '\0' || strcmp(name, kept) < 0))
        memcpy(kept, name, n + 1);
}

static void listing_add(struct listing *l, const char *name)
{
    if (strcmp(name, SINGLE) == 0) {
        l->single = true;
    } else if (strcmp(name, INDEX) == 0) {
        l->index = true;
    } else if (strcmp(name, ADAPTER) == 0) {
        l->adapter = true;
    } else if (is_shard_name(name)) {
        keep_first(l->shard, name);
    } else if (ends_in(name, ".safetensors")) {
        l->n_other++;
        keep_first(l->other, name);
    } else if (strcmp(name, BIN) == 0) {
        l->bin = true;
    } else if (strcmp(name, BIN_INDEX) == 0) {
        l->bin_index = true;
    } else if (ends_in(name, ".bin") || ends_in(name, ".bin.index.json") ||
               ends_in(name, ".pt") || ends_in(name, ".pth")) {
        keep_first(l->pickle, name);
    } else if (ends_in(name, ".gguf")) {
        keep_first(l->gguf, name);
    } else if (ends_in(name, ".incomplete")) {
        keep_first(l->unfinished, name);
    }
}

/** Call @p visit for every name in the directory, in no order. */
static ws_status names_visit(const char *path, void (*visit)(void *arg, const char *),
                             void *arg, ws_err *err)
{
    DIR *dir = opendir(path);
    if (dir == NULL) {
        ws_fail_sys(err, WS_E_IO, errno, "cannot list the directory");
        return ws_err_at(err, path, NULL, -1), WS_E_IO;
    }
    const struct dirent *e;
    errno = 0;
    while ((e = readdir(dir)) != NULL) // NOLINT(concurrency-mt-unsafe): own stream
        visit(arg, e->d_name);
    const int sys = errno;
    closedir(dir);
    if (sys != 0) {
        ws_fail_sys(err, WS_E_IO, sys, "cannot list the directory");
        return ws_err_at(err, path, NULL, -1), WS_E_IO;
    }
    return WS_OK;
}

static void visit_listing(void *arg, const char *name)
{
    listing_add(arg, name);
}

static void visit_unfinished(void *arg, const char *name)
{
    bool *found = arg;
    *found |= ends_in(name, ".incomplete");
}

/** Whether a download into the model directory has begun and not ended: the hub's tools
 * keep what they have beside a snapshot's blobs, or in a folder of their own. */
static bool download_unfinished(const char *dir)
{
    static const char *const places[] = { "../../blobs",
                                          ".cache/huggingface/download" };
    bool found = false;
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        char *path = ws_path_join(dir, places[i]);
        if (path != NULL) // most directories have no such folder
            names_visit(path, visit_unfinished, &found, NULL);
        ws_free(path);
    }
    return found;
}

/** Say why nothing in the directory can be read. */
static ws_status report_nothing(const struct listing *l, const char *path, ws_err *err)
{
    if (l->adapter) {
        ws_fail(err, WS_E_UNSUPPORTED,
                "adapters: directory holds an adapter, not a model");
        ws_err_hint(err, "put it on its base: BASE+%s", path);
        return WS_E_UNSUPPORTED;
    }
    if (l->shard[0] != '\0') {
        ws_fail(err, WS_E_MISSING, "directory holds shard '%s' but no index '%s'",
                l->shard, INDEX);
        ws_err_hint(err, "fetch the index too");
        return WS_E_MISSING;
    }
    if (l->unfinished[0] != '\0') {
        ws_fail(err, WS_E_HEADER,
                "directory holds a download that has not finished: '%s'",
                l->unfinished);
        ws_err_hint(err, "fetch it again");
        return WS_E_HEADER;
    }
    if (l->n_other > 0) {
        ws_fail(err, WS_E_MISSING, "directory holds '%s' but no '%s' and no index",
                l->other, SINGLE);
        ws_err_hint(err, "to read '%s', name the file itself", l->other);
        return WS_E_MISSING;
    }
    if (l->pickle[0] != '\0') {
        ws_fail(err, WS_E_UNSUPPORTED,
                "directory holds '%s', but no '%s' and no index of either format",
                l->pickle, BIN);
        ws_err_hint(err, "to read '%s', name the file itself", l->pickle);
        return WS_E_UNSUPPORTED;
    }
    if (l->gguf[0] != '\0') {
        ws_fail(err, WS_E_UNSUPPORTED, "directory holds only GGUF weights ('%s')",
                l->gguf);
        ws_err_hint(err, "to read '%s', name the file itself", l->gguf);
        return WS_E_UNSUPPORTED;
    }
    ws_fail(err, WS_E_MISSING, "directory holds no '%s' and no '%s'", SINGLE, INDEX);
    if (download_unfinished(path))
        ws_err_hint(err, "a download has not finished: fetch it again");
    return WS_E_MISSING;
}

/** Whether the weights are one file or shards; refuses what is ambiguous. */
static ws_status layout_choose(const struct listing *l, const char *path,
                               ws_diag *warnings, ws_err *err)
{
    ws_status st = WS_OK;
    const bool pickles = !l->single && !l->index;
    if (pickles ? l->bin && l->bin_index : l->single && l->index) {
        st =
            ws_fail(err, WS_E_HEADER,
                    "directory holds both '%s' and '%s': readers disagree which counts",
                    pickles ? BIN : SINGLE, pickles ? BIN_INDEX : INDEX);
        ws_err_hint(err, "remove one of them, or name the file itself");
    } else if (pickles &&
               (!(l->bin || l->bin_index) || l->n_other > 0 || l->shard[0] != '\0')) {
        st = report_nothing(l, path, err);
    }
    if (st != WS_OK)
        return ws_err_at(err, path, NULL, -1), st;
    if (l->adapter) {
        ws_err *w = ws_diag_report(warnings, WS_OK, "adapter-ignored",
                                   "directory also holds an adapter ('%s'), which is "
                                   "not applied",
                                   ADAPTER);
        if (w != NULL)
            ws_err_at(w, path, NULL, -1);
    }
    return WS_OK;
}

/** A file of PyTorch's. */
static ws_status bin_load(ws_ckpt *c, uint32_t file, ws_diag *warnings, ws_err *err)
{
    bool known = false;
    const ws_status st = ws_archive_load(c, file, &known, warnings, err);
    if (st != WS_OK || known)
        return st;
    unsigned char head[64];
    const uint64_t bytes = c->files[file].bytes;
    const size_t have = bytes < sizeof head ? (size_t)bytes : sizeof head;
    ws_status why = ws_ckpt_file_read(c, file, 0, have, head, err);
    if (why == WS_OK)
        why = ws_foreign_check(head, have, err);
    return why != WS_OK ? why : ws_fail(err, WS_E_HEADER, "file is no PyTorch archive");
}

/** Add and read one file of weights of the directory. */
static ws_status file_load(ws_ckpt *c, const char *name, bool single, ws_diag *warnings,
                           ws_err *err)
{
    uint32_t file;
    ws_err why = WS_ERR_INIT;
    char *path = ws_path_join(c->path, name);
    if (path == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for a path");
    ws_status st = ws_ckpt_add_file(c, name, path, &file, &why);
    if (st == WS_E_IO && why.sys == ENOENT && !single) {
        st = ws_fail(&why, WS_E_MISSING, "shard '%s' of the index is not there", name);
        ws_err_hint(&why, "%s",
                    download_unfinished(c->path)
                        ? "a download has not finished: fetch it again"
                        : "fetch it, or the link to it is broken");
    }
    if (st == WS_OK && ends_in(name, ".bin"))
        st = bin_load(c, file, warnings, &why);
    else if (st == WS_OK)
        st = ws_st_load(c, file, single, warnings, &why);
    if (st != WS_OK) {
        ws_err_at(&why, path, NULL, -1);
        if (err != NULL)
            *err = why;
    }
    ws_free(path);
    return st;
}

/* ---- shards ---- */

/** Tensors of the shards that the index does not name: report the first. */
static ws_status extra_report(const ws_ckpt *c, const ws_hf_index *x, ws_err *err)
{
    unsigned char *named = ws_calloc(c->n, 1);
    if (named == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory to check an index");
    for (size_t i = 0; i < x->n; i++)
        named[ws_ckpt_lookup(c, x->entries[i].tensor)] = 1;
    size_t first = 0;
    while (named[first])
        first++;
    ws_free(named);
    const ws_tensor *t = &c->records[first].t;
    ws_fail(err, WS_E_HEADER,
            "tensor stands in shard '%s' but not in the index (%zu "
            "such tensors)",
            c->files[t->file].name, c->n - x->n);
    return ws_err_at(err, NULL, t->name, -1), WS_E_HEADER;
}

/** The index's names and the shards' must be the same, each in the shard it names. */
static ws_status index_compare(const ws_ckpt *c, const ws_hf_index *x, ws_err *err)
{
    for (size_t i = 0; i < x->n; i++) {
        const ws_hf_entry *e = &x->entries[i];
        const size_t at = ws_ckpt_lookup(c, e->tensor);
        ws_status st = WS_OK;
        if (at == SIZE_MAX) {
            st = ws_fail(err, WS_E_MISSING,
                         "tensor stands in the index but not in its shard '%s'",
                         e->shard);
        } else {
            const char *in = c->files[c->records[at].t.file].name;
            if (strcmp(in, e->shard) != 0)
                st = ws_fail(err, WS_E_HEADER,
                             "tensor stands in shard '%s', the index says '%s'", in,
                             e->shard);
        }
        if (st != WS_OK)
            return ws_err_at(err, NULL, e->tensor, -1), st;
    }
    return c->n > x->n ? extra_report(c, x, err) : WS_OK;
}

/** Take over the strings of the index's metadata; look at total_size. */
static ws_status metadata_take(ws_ckpt *c, const ws_hf_index *x, const char *path,
                               ws_diag *warnings, ws_err *err)
{
    const cJSON *meta = cJSON_GetObjectItemCaseSensitive(x->tree, "metadata"), *item;
    if (!cJSON_IsObject(meta))
        return WS_OK;
    cJSON_ArrayForEach(item, meta)
    {
        if (!cJSON_IsString(item))
            continue;
        const ws_status st = ws_ckpt_add_meta(c, item->string, item->valuestring, err);
        if (st != WS_OK)
            return st;
    }
    const cJSON *size = cJSON_GetObjectItemCaseSensitive(meta, "total_size");
    uint64_t said = 0, sum = 0;
    for (size_t i = 0; i < c->n; i++)
        sum += c->records[i].t.n_bytes; // below the sizes of files that exist
    if (size == NULL || (ws_json_u64(size, &said) && said == sum))
        return WS_OK;
    ws_err *w = ws_diag_report(warnings, WS_OK, "total-size",
                               "total_size of the index is not the %llu bytes of its "
                               "tensors",
                               (unsigned long long)sum);
    if (w != NULL)
        ws_err_at(w, path, NULL, -1);
    return WS_OK;
}

struct strays {
    const ws_hf_index *x;
    size_t n;
    char first[NAME_SIZE];
};

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void visit_stray(void *arg, const char *name)
{
    struct strays *s = arg;
    if (!is_shard_name(name) || bsearch(&name, s->x->shards, s->x->n_shards,
                                        sizeof *s->x->shards, compare_names) != NULL)
        return;
    s->n++;
    keep_first(s->first, name);
}

/** Shards beside those of the index: other readers may load them. */
static ws_status strays_warn(const char *dir, const ws_hf_index *x, ws_diag *warnings,
                             ws_err *err)
{
    struct strays s = { .x = x };
    const ws_status st = names_visit(dir, visit_stray, &s, err);
    if (st != WS_OK || s.n == 0)
        return st;
    ws_err *w =
        ws_diag_report(warnings, WS_OK, "stray-shard",
                       "shard '%s' is not in the index and is not read (%zu such "
                       "files)",
                       s.first, s.n);
    if (w != NULL)
        ws_err_at(w, dir, NULL, -1);
    return WS_OK;
}

static ws_status shards_load(ws_ckpt *c, const char *index, ws_diag *warnings,
                             ws_err *err)
{
    ws_hf_index x = { 0 };
    char *text = NULL, *path = ws_path_join(c->path, index);
    const char *ending = strcmp(index, INDEX) == 0 ? ".safetensors" : ".bin";
    size_t len = 0;
    if (path == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for a path");
    ws_status st = ws_file_read(&text, &len, path, MAX_INDEX, err);
    if (st == WS_OK && len > 0 && text[0] != '{') // a Git-LFS pointer, perhaps
        st = ws_foreign_check(text, len, err);
    if (st == WS_OK)
        st = ws_hf_index_parse(&x, text, len, ending, err);
    for (size_t i = 0; st == WS_OK && i < x.n_shards; i++)
        st = file_load(c, x.shards[i], false, warnings, err);
    if (st == WS_OK)
        st = index_compare(c, &x, err);
    if (st == WS_OK)
        st = metadata_take(c, &x, path, warnings, err);
    if (st == WS_OK)
        st = strays_warn(c->path, &x, warnings, err);
    if (st != WS_OK)
        ws_err_at(err, path, NULL, -1);
    ws_hf_index_free(&x);
    ws_free(text);
    ws_free(path);
    return st;
}

/* ---- the directory ---- */

static ws_status config_load(ws_ckpt *c, ws_err *err)
{
    ws_err why = WS_ERR_INIT;
    char *path = ws_path_join(c->path, CONFIG);
    if (path == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for a path");
    ws_status st = ws_file_read(&c->config, &c->config_len, path, MAX_CONFIG, &why);
    ws_free(path);
    if (st == WS_E_IO && why.sys == ENOENT)
        return WS_OK;
    if (st != WS_OK && err != NULL)
        *err = why;
    return st;
}

/** Safetensors where there are any, else PyTorch's. */
static ws_status weights_load(ws_ckpt *c, const struct listing *l, ws_diag *warnings,
                              ws_err *err)
{
    ws_status st;
    if (l->single)
        st = file_load(c, SINGLE, true, warnings, err);
    else if (l->index)
        st = shards_load(c, INDEX, warnings, err);
    else if (l->bin)
        st = file_load(c, BIN, true, warnings, err);
    else
        st = shards_load(c, BIN_INDEX, warnings, err);
    c->format = l->single  ? "safetensors"
                : l->index ? "safetensors-sharded"
                : l->bin   ? "pytorch"
                           : "pytorch-sharded";
    return st;
}

ws_status ws_hf_dir_open(ws_ckpt **out, const char *path, ws_diag *warnings,
                         ws_err *err)
{
    ws_ckpt *c = NULL;
    struct listing l = { 0 };
    ws_status st = names_visit(path, visit_listing, &l, err);
    if (st == WS_OK)
        st = layout_choose(&l, path, warnings, err);
    if (st != WS_OK)
        return st;
    st = ws_ckpt_new(&c, path, NULL, NULL, NULL, err);
    if (st == WS_OK)
        st = weights_load(c, &l, warnings, err);
    if (st == WS_OK)
        st = config_load(c, err);
    if (st == WS_OK)
        st = ws_ckpt_finish(c, err);
    if (st != WS_OK) {
        ws_err_at(err, path, NULL, -1);
        ws_ckpt_free(c);
        return st;
    }
    *out = c;
    return WS_OK;
}
