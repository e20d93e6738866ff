/*
 * parts.c - merges made in parts, and their completion
 *
 * part.json: {"schema":"wsurg-part/1","key":plan,"part":I,"parts":N,"tensors":[{"name",
 * "out":digest,"in":[digest or null, one per input]}…]}
 */
#include "engine/parts.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/json.h"
#include "base/os.h"
#include "wsurg/text.h"

const char *ws_part_target(ws_plan *plan, unsigned part, unsigned parts)
{
    size_t n = strlen(plan->out);
    while (n > 1 && plan->out[n - 1] == '/')
        n--;
    return ws_plan_format(plan, "%.*s.part-%u-of-%u", (int)n, plan->out, part, parts);
}

/** Part (0-based) of the file whose middle lies at this share of all bytes. */
static unsigned part_of(const ws_plan *plan, size_t file, unsigned parts)
{
    double before = 0.0, all = 0.0;
    for (size_t f = 0; f < plan->n_files; f++) {
        if (f < file)
            before += (double)plan->files[f].bytes;
        all += (double)plan->files[f].bytes;
    }
    const double middle = before + 0.5 * (double)plan->files[file].bytes;
    const unsigned p = (unsigned)(middle / all * parts);
    return p < parts ? p : parts - 1;
}

void ws_part_files(const ws_plan *plan, unsigned part, unsigned parts, size_t *first,
                   size_t *n)
{
    *first = 0;
    *n = parts == 0 ? plan->n_files : 0;
    for (size_t f = 0; parts != 0 && f < plan->n_files; f++) {
        if (part_of(plan, f, parts) != part - 1)
            continue;
        if (*n == 0)
            *first = f;
        ++*n;
    }
}

void ws_part_tensors(const ws_plan *plan, size_t *first, size_t *n)
{
    const ws_write_opts *w = &plan->req->write;
    size_t first_file, n_files;
    ws_part_files(plan, w->part, w->parts, &first_file, &n_files);
    *first = n_files == 0 ? 0 : plan->files[first_file].first;
    *n = 0;
    for (size_t f = first_file; f < first_file + n_files; f++)
        *n += plan->files[f].n;
}

ws_status ws_part_put(const ws_finish *f, ws_err *err)
{
    const ws_plan *plan = f->plan;
    const ws_write_opts *w = &plan->req->write;
    char hex[33];
    ws_buf b = { 0 };
    ws_buf_printf(&b,
                  "{\"schema\":\"wsurg-part/1\",\"key\":\"%s\",\"part\":%u,"
                  "\"parts\":%u,\"tensors\":[",
                  plan->priv->whole_key, w->part, w->parts);
    for (size_t i = f->first; i < f->first + f->n; i++) {
        const ws_tensor_result *r = &f->results[i];
        ws_buf_puts(&b, i == f->first ? "\n{\"name\":" : ",\n{\"name\":");
        ws_buf_json_string(&b, plan->tensors[i].t.name,
                           strlen(plan->tensors[i].t.name));
        ws_xxh128_hex(r->out, hex);
        ws_buf_printf(&b, ",\"out\":\"%s\",\"in\":[", hex);
        for (size_t k = 0; k < plan->n_inputs; k++) {
            ws_xxh128_hex(r->in[k], hex);
            const bool has = ws_plan_source(plan, &plan->tensors[i], k) != NULL;
            ws_buf_printf(&b, has ? "%s\"%s\"" : "%snull", k == 0 ? "" : ",", hex);
        }
        ws_buf_puts(&b, "]}");
    }
    ws_buf_puts(&b, "]}\n");
    const ws_status st =
        b.failed ? ws_fail(err, WS_E_MEMORY, "no memory for the part's list")
                 : ws_stage_put(f->stage, "part.json", b.p, b.n, err);
    ws_buf_free(&b);
    return st;
}

/* ---- join ---- */

/** How many of the parts are there, and the first that is not (0: all are). */
static unsigned count_present(ws_plan *plan, unsigned parts, unsigned *missing)
{
    unsigned n = 0;
    *missing = 0;
    for (unsigned p = 1; p <= parts; p++) {
        const char *dir = ws_part_target(plan, p, parts);
        struct stat sb;
        if (dir != NULL && stat(dir, &sb) == 0)
            n++;
        else if (*missing == 0)
            *missing = p;
    }
    return n;
}

/** N of "I-of-N"; 0 when the text is none of them. */
static unsigned part_count(const char *text)
{
    char part[16];
    uint64_t i, n;
    const char *of = strstr(text, "-of-");
    snprintf(part, sizeof part, "%.*s", of == NULL ? 0 : (int)(of - text), text);
    if (of == NULL || !ws_parse_u64(part, &i) || !ws_parse_u64(of + 4, &n) || i < 1 ||
        i > n || n > 100000)
        return 0;
    return (unsigned)n;
}

/** The number of parts of which most lie beside the target; 0 when there are none. */
static unsigned count_parts(ws_plan *plan)
{
    ws_buf dir = { 0 }, stem = { 0 };
    size_t n = strlen(plan->out);
    while (n > 1 && plan->out[n - 1] == '/')
        n--;
    size_t slash = n;
    while (slash > 0 && plan->out[slash - 1] != '/')
        slash--;
    if (slash == 0)
        ws_buf_puts(&dir, ".");
    else
        ws_buf_add(&dir, plan->out, slash);
    ws_buf_add(&stem, plan->out + slash, n - slash);
    ws_buf_puts(&stem, ".part-");
    unsigned parts = 0, most = 0;
    DIR *d = dir.failed || stem.failed ? NULL : opendir(dir.p);
    const struct dirent *e;
    while (d != NULL &&
           (e = readdir(d)) != NULL) { // NOLINT(concurrency-mt-unsafe): own
        unsigned missing;
        const unsigned of = strncmp(e->d_name, stem.p, stem.n) == 0
                                ? part_count(e->d_name + stem.n)
                                : 0;
        if (of == 0 || of == parts || of > plan->n_files)
            continue;
        const unsigned present = count_present(plan, of, &missing);
        if (present > most || (present == most && of > parts)) {
            parts = of;
            most = present;
        }
    }
    if (d != NULL)
        closedir(d);
    ws_buf_free(&dir);
    ws_buf_free(&stem);
    return parts;
}

/** A digest of 32 hex digits. */
static bool parse_digest(const cJSON *item, ws_xxh128 *out)
{
    return cJSON_IsString(item) &&
           ws_parse_hex(item->valuestring, out->b, sizeof out->b);
}

/** The digests of tensor @p name from its entry. */
static bool take_tensor(const ws_plan *plan, const cJSON *item, const char *name,
                        ws_tensor_result *result)
{
    const cJSON *listed = cJSON_GetObjectItemCaseSensitive(item, "name");
    const cJSON *in = cJSON_GetObjectItemCaseSensitive(item, "in");
    if (!cJSON_IsString(listed) || strcmp(listed->valuestring, name) != 0 ||
        !parse_digest(cJSON_GetObjectItemCaseSensitive(item, "out"), &result->out) ||
        (size_t)cJSON_GetArraySize(in) != plan->n_inputs)
        return false;
    size_t k = 0;
    const cJSON *digest;
    cJSON_ArrayForEach(digest, in)
    {
        if (!cJSON_IsNull(digest) && !parse_digest(digest, &result->in[k]))
            return false;
        k++;
    }
    return true;
}

/** The digests of the tensors of files first .. first+n-1, listed in their order. */
static bool take_tensors(const ws_plan *plan, const cJSON *list, size_t first, size_t n,
                         ws_tensor_result *results)
{
    const cJSON *item = list == NULL ? NULL : list->child;
    for (size_t f = first; f < first + n; f++) {
        const ws_plan_file *pf = &plan->files[f];
        for (size_t i = pf->first; i < pf->first + pf->n; i++) {
            if (item == NULL ||
                !take_tensor(plan, item, plan->tensors[i].t.name, &results[i]))
                return false;
            item = item->next;
        }
    }
    return item == NULL;
}

static ws_status bad_part(ws_err *err, const char *path, const char *why)
{
    ws_fail(err, WS_E_HEADER, "%s", why);
    ws_err_at(err, path, NULL, -1);
    return WS_E_HEADER;
}

/** Read one part's list into the results. */
static ws_status read_part(ws_plan *plan, unsigned part, unsigned parts,
                           ws_tensor_result *results, ws_err *err)
{
    enum { CAP = 256 << 20 };
    const char *dir = ws_part_target(plan, part, parts);
    const char *path = ws_plan_format(plan, "%s/part.json", dir == NULL ? "" : dir);
    cJSON *tree = NULL;
    ws_status st = path == NULL ? ws_fail(err, WS_E_MEMORY, "no memory for a part")
                                : ws_json_read(&tree, path, CAP, err);
    if (st != WS_OK)
        return st;
    const cJSON *key = cJSON_GetObjectItemCaseSensitive(tree, "key");
    if (!cJSON_IsString(key) || strcmp(key->valuestring, plan->priv->whole_key) != 0) {
        st = bad_part(err, path, "the part was made of other inputs or options");
        ws_err_hint(err, "give join the very models and options of the parts");
    }
    size_t first, n;
    ws_part_files(plan, part, parts, &first, &n);
    if (st == WS_OK &&
        !take_tensors(plan, cJSON_GetObjectItemCaseSensitive(tree, "tensors"), first, n,
                      results))
        st = bad_part(err, path, "the part does not list the tensors of its files");
    cJSON_Delete(tree);
    return st;
}

static ws_status read_parts(ws_plan *plan, unsigned parts, ws_tensor_result *results,
                            ws_err *err)
{
    ws_status st = WS_OK;
    for (size_t i = 0; st == WS_OK && i < plan->n_tensors; i++) {
        results[i].in = ws_plan_alloc(plan, plan->n_inputs + 1, sizeof *results[i].in);
        if (results[i].in == NULL)
            st = ws_fail(err, WS_E_MEMORY, "no memory for the parts");
    }
    for (unsigned p = 1; st == WS_OK && p <= parts; p++)
        st = read_part(plan, p, parts, results, err);
    return st;
}

/** Bring the shards of all parts into the stage. */
static ws_status copy_shards(ws_plan *plan, unsigned parts, ws_stage *stage,
                             ws_err *err)
{
    for (unsigned p = 1; p <= parts; p++) {
        size_t first, n;
        ws_part_files(plan, p, parts, &first, &n);
        for (size_t f = first; f < first + n; f++) {
            const char *from = ws_plan_format(
                plan, "%s/%s", ws_part_target(plan, p, parts), plan->files[f].name);
            if (from == NULL)
                return ws_fail(err, WS_E_MEMORY, "no memory for the parts");
            const ws_status st = ws_stage_copy(stage, plan->files[f].name, from, err);
            if (st != WS_OK)
                return st;
        }
    }
    return WS_OK;
}

/** All of join once the parts are known. */
static ws_status join_steps(ws_plan *plan, unsigned parts, const ws_ctx *ctx,
                            ws_pool *pool, ws_stage **stage, ws_result *r, ws_err *err)
{
    ws_tensor_result *results =
        ws_plan_alloc(plan, plan->n_tensors + 1, sizeof *results);
    if (results == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for the parts");
    ws_status st = read_parts(plan, parts, results, err);
    const ws_stage_opts o = {
        .target = plan->out,
        .is_dir = true,
        .force = plan->req->write.force,
        .resume = false,
        .key = plan->key,
    };
    if (st == WS_OK)
        st = ws_stage_open(stage, &o, ctx == NULL ? NULL : ctx->warnings, err);
    if (st == WS_OK)
        st = copy_shards(plan, parts, *stage, err);
    const ws_finish f = {
        .plan = plan,
        .results = results,
        .stage = *stage,
        .pool = pool,
        .ctx = ctx,
        .target = plan->out,
        .n = plan->n_tensors,
    };
    r->merged = plan->n_tensors - plan->n_copied;
    r->copied = plan->n_copied;
    r->dropped = plan->n_dropped;
    for (size_t i = 0; i < plan->n_files; i++)
        r->usage.written_bytes += plan->files[i].bytes;
    r->usage.read_bytes = r->usage.written_bytes;
    return st == WS_OK ? ws_finish_joined(&f, r, err) : st;
}

/** All parts must be there: how many they are in *parts. */
static ws_status find_parts(ws_plan *plan, unsigned *parts, ws_err *err)
{
    unsigned missing = 0, present = 0;
    *parts = plan->out_is_dir ? count_parts(plan) : 0;
    if (*parts > 0)
        present = count_present(plan, *parts, &missing);
    if (*parts > 0 && missing == 0)
        return WS_OK;
    if (*parts == 0) {
        ws_fail(err, WS_E_USAGE, "there are no parts of it to join");
        ws_err_hint(err, "wsurg merge ... --part 1/2, then --part 2/2, write them "
                         "beside it");
    } else {
        ws_fail(err, WS_E_USAGE, "part %u of %u is missing%s", missing, *parts,
                present + 1 < *parts ? ", and others" : "");
        ws_err_hint(err,
                    "make it with the models and options of the others: wsurg "
                    "merge ... --part %u/%u",
                    missing, *parts);
    }
    ws_err_at(err, *parts == 0 ? plan->out : ws_part_target(plan, missing, *parts),
              NULL, -1);
    return WS_E_USAGE;
}

ws_status ws_plan_join(ws_plan *plan, const ws_ctx *ctx, ws_result **out, ws_err *err)
{
    const double start = ws_os_now();
    unsigned parts;
    const ws_status found = find_parts(plan, &parts, err);
    if (found != WS_OK)
        return found;
    ws_result *r = ws_result_new();
    if (r == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for the result");
    plan->priv->ctx = ctx;
    ws_stage *stage = NULL;
    ws_pool *pool = NULL;
    ws_status st = ws_pool_new(&pool, ws_ctx_threads(ctx), err);
    if (st == WS_OK)
        st = join_steps(plan, parts, ctx, pool, &stage, r, err);
    if (stage != NULL)
        ws_stage_close(stage, false);
    r->usage.threads = pool == NULL ? 1 : ws_pool_size(pool);
    ws_pool_free(pool);
    r->usage.seconds = ws_os_now() - start;
    r->usage.peak_memory = ws_os_memory_now();
    r->usage.peak_resident = ws_os_memory_peak();
    if (st == WS_OK)
        *out = r;
    else
        ws_result_free(r);
    return st;
}
