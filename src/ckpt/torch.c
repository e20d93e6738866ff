/*
 * torch.c - PyTorch's zip checkpoints: a pickle that says what lies where in the
 * archive
 *
 * Tensors are read where they lie. formats.md 4.
 */
#include <string.h>

#include "ckpt/archive.h"
#include "ckpt/pickle.h"
#include "wsurg/text.h"

/** What is known of a checkpoint while its tensors are added. */
struct torch {
    ws_ckpt *c;
    uint32_t file;
    const ws_zip *zip;
    const char *prefix; /* with its slash */
    ws_pickle pickle;
    const ws_zip_member **data; /* (pickle.n_storages) */
    bool swap;
};

/** The member PREFIX + name, or NULL. */
static const ws_zip_member *member(const struct torch *t, const char *name)
{
    ws_buf b = { 0 };
    ws_buf_puts(&b, t->prefix);
    ws_buf_puts(&b, name);
    const ws_zip_member *m = b.failed ? NULL : ws_zip_find(t->zip, b.p);
    ws_buf_free(&b);
    return m;
}

bool ws_torch_is(const ws_zip *zip)
{
    for (size_t i = 0; i < zip->n; i++) {
        const char *slash = strchr(zip->members[i].name, '/');
        if (slash != NULL && strcmp(slash, "/data.pkl") == 0)
            return true;
    }
    return false;
}

/** All members lie in one folder, none of them of TorchScript. */
static ws_status check_folder(const struct torch *t, ws_err *err)
{
    const size_t n = strlen(t->prefix);
    for (size_t i = 0; i < t->zip->n; i++) {
        const ws_zip_member *m = &t->zip->members[i];
        if (strncmp(m->name, t->prefix, n) != 0) {
            char shown[120];
            ws_show(m->name, shown, sizeof shown);
            ws_fail(err, WS_E_HEADER, "member '%s' lies outside of folder '%s'", shown,
                    t->prefix);
            return ws_err_at(err, NULL, NULL, (int64_t)m->at), WS_E_HEADER;
        }
    }
    if (member(t, "constants.pkl") != NULL)
        return ws_fail(err, WS_E_UNSUPPORTED,
                       "file is a TorchScript program, not a state dict: not read");
    return WS_OK;
}

/** PREFIX/byteorder: "little" or "big"; absent in older files, which are little. */
static ws_status read_order(struct torch *t, ws_err *err)
{
    const ws_zip_member *m = member(t, "byteorder");
    char word[8] = "little";
    if (m != NULL) {
        memset(word, 0, sizeof word);
        if (m->bytes > sizeof word - 1)
            return ws_fail(err, WS_E_HEADER, "byteorder is neither little nor big");
        const ws_status st =
            ws_ckpt_file_read(t->c, t->file, m->offset, (size_t)m->bytes, word, err);
        if (st != WS_OK)
            return st;
    }
    t->swap = strcmp(word, "big") == 0;
    if (!t->swap && strcmp(word, "little") != 0)
        return ws_fail(err, WS_E_HEADER, "byteorder is neither little nor big");
    return WS_OK;
}

static ws_status read_pickle(struct torch *t, ws_err *err)
{
    const ws_zip_member *m = member(t, "data.pkl");
    if (m == NULL)
        return ws_fail(err, WS_E_HEADER, "archive has no '%sdata.pkl'", t->prefix);
    if (m->bytes > 256u << 20)
        return ws_fail(err, WS_E_HEADER, "data.pkl is longer than 256 MiB");
    void *text = ws_alloc((size_t)m->bytes + 1);
    if (text == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for a pickle of %llu bytes",
                       (unsigned long long)m->bytes);
    ws_status st =
        ws_ckpt_file_read(t->c, t->file, m->offset, (size_t)m->bytes, text, err);
    if (st == WS_OK) {
        st = ws_pickle_parse(&t->pickle, text, (size_t)m->bytes, err);
        if (st != WS_OK && err != NULL && err->offset >= 0)
            err->offset += (int64_t)m->offset; // of the file
    }
    ws_free(text);
    return st;
}

static uint64_t storage_size(const ws_pickle_storage *s)
{
    return s->untyped ? 1 : ws_dtype_info(s->dtype)->bits / 8;
}

/** The member of every storage, of exactly the size that the pickle says. */
static ws_status find_storages(struct torch *t, ws_err *err)
{
    const ws_pickle *p = &t->pickle;
    t->data = ws_calloc(p->n_storages + 1, sizeof *t->data);
    if (t->data == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for %zu storages", p->n_storages);
    for (size_t i = 0; i < p->n_storages; i++) {
        const ws_pickle_storage *s = &p->storages[i];
        char shown[80];
        uint64_t bytes = 0;
        ws_buf b = { 0 };
        ws_show(s->key, shown, sizeof shown);
        ws_buf_puts(&b, "data/");
        ws_buf_puts(&b, s->key);
        t->data[i] = b.failed ? NULL : member(t, b.p);
        ws_buf_free(&b);
        if (t->data[i] == NULL)
            return ws_fail(err, WS_E_MISSING, "storage 'data/%s' is not in the archive",
                           shown);
        if (!ws_mul_u64(s->count, storage_size(s), &bytes) ||
            bytes != t->data[i]->bytes)
            return ws_fail(err, WS_E_HEADER,
                           "storage 'data/%s' has %llu bytes, the pickle says %llu",
                           shown, (unsigned long long)t->data[i]->bytes,
                           (unsigned long long)bytes);
    }
    return WS_OK;
}

static ws_status add_tensor(const struct torch *t, const ws_pickle_tensor *from,
                            ws_err *err)
{
    const ws_zip_member *m = t->data[from->storage];
    const uint64_t size = ws_dtype_info(from->dtype)->bits / 8;
    const ws_tensor x = { .name = from->name,
                          .dtype = from->dtype,
                          .rank = from->rank,
                          .shape = from->shape };
    uint64_t skip = 0;
    bool empty = false; // which may begin anywhere
    for (int d = 0; d < from->rank; d++)
        empty = empty || from->shape[d] == 0;
    if (!empty && (!ws_mul_u64(from->offset, size, &skip) || skip > m->bytes)) {
        ws_fail(err, WS_E_HEADER, "tensor begins past its storage of %llu bytes",
                (unsigned long long)m->bytes);
        return ws_err_at(err, NULL, from->name, -1), WS_E_HEADER;
    }
    const ws_view v = { .file = t->file,
                        .offset = m->offset + skip,
                        .bytes = m->bytes - skip,
                        .stride = from->stride,
                        .swap = t->swap };
    return ws_views_add(t->c, &x, &v, err);
}

/** What was chosen or left out. */
static void tell(const struct torch *t, ws_diag *warnings)
{
    const char *path = t->c->files[t->file].path;
    ws_err *w = NULL;
    if (t->pickle.inside != NULL) {
        w = ws_diag_report(warnings, WS_OK, "note", "tensors are those under key '%s'",
                           t->pickle.inside);
        if (w != NULL)
            ws_err_at(w, path, NULL, -1);
    }
    if (t->pickle.n_other == 0)
        return;
    w = ws_diag_report(warnings, WS_OK, "not-a-tensor",
                       "%zu entries of the state dict are no tensors: left out",
                       t->pickle.n_other);
    if (w != NULL)
        ws_err_at(w, path, NULL, -1);
}

ws_status ws_torch_load(ws_ckpt *c, uint32_t file, const ws_zip *zip, ws_diag *warnings,
                        ws_err *err)
{
    struct torch t = { .c = c, .file = file, .zip = zip };
    const char *first = zip->members[0].name, *slash = strchr(first, '/');
    char *prefix =
        slash == NULL ? NULL : ws_strndup(first, (size_t)(slash + 1 - first));
    if (slash == NULL)
        return ws_fail(err, WS_E_HEADER, "archive's members lie in no folder");
    if (prefix == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for the name of a folder");
    t.prefix = prefix;
    ws_status st = check_folder(&t, err);
    if (st == WS_OK)
        st = read_order(&t, err);
    if (st == WS_OK)
        st = read_pickle(&t, err);
    if (st == WS_OK)
        st = find_storages(&t, err);
    for (size_t i = 0; st == WS_OK && i < t.pickle.n; i++)
        st = add_tensor(&t, &t.pickle.tensors[i], err);
    if (st == WS_OK)
        tell(&t, warnings);
    ws_free(t.data);
    ws_pickle_free(&t.pickle);
    ws_free(prefix);
    return st;
}
