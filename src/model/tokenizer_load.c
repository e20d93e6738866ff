/*
 * tokenizer_load.c - tokenizer.json
 *
 * The model first, then the parts, then the added tokens: they get the ids of their
 * spellings in the vocabulary, and those that are not there the next free ones in their
 * order, whatever "id" says (so does huggingface/tokenizers).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/json.h"
#include "model/tokenizer_internal.h"

enum { MAX_CONFIG = 16 << 20 };

ws_status ws_tok_fail(ws_err *err, ws_status st, const char *where, const char *fmt,
                      ...)
{
    char text[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return ws_fail(err, st, "%s: %s", where, text);
}

/** A copy of a JSON string that lives as long as the tokenizer. */
static ws_status keep(ws_tokenizer *t, const char *s, ws_span *out, ws_err *err)
{
    const size_t n = strlen(s);
    char *copy = ws_arena_alloc(&t->arena, n + 1);
    if (copy == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for a tokenizer");
    memcpy(copy, s, n + 1);
    *out = (ws_span){ copy, n };
    return WS_OK;
}

ws_status ws_tok_get_text(ws_tokenizer *t, const cJSON *o, const char *where,
                          const char *key, ws_span *out, ws_err *err)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(o, key);
    if (!cJSON_IsString(item))
        return ws_tok_fail(err, WS_E_HEADER, where, "'%s' is not a string", key);
    return keep(t, item->valuestring, out, err);
}

ws_status ws_tok_get_bool(const cJSON *o, const char *where, const char *key,
                          int standard, bool *out, ws_err *err)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(o, key);
    if ((item == NULL || cJSON_IsNull(item)) && standard < 2) {
        *out = standard == 1;
        return WS_OK;
    }
    if (!cJSON_IsBool(item))
        return ws_tok_fail(err, WS_E_HEADER, where, "'%s' is neither true nor false",
                           key);
    *out = cJSON_IsTrue(item);
    return WS_OK;
}

/* ---- model ----------------------------------------------------------------------- */

static ws_status bad_id(ws_err *err, const char *token, const char *what)
{
    char shown[80];
    ws_show(token, shown, sizeof shown);
    return ws_tok_fail(err, WS_E_HEADER, "model.vocab", "the id of '%s' is %s", shown,
                       what);
}

/** Sizes of the vocabulary: tokens, bytes of their spellings, largest id and one. */
static ws_status vocab_measure(const cJSON *vocab, int32_t *count, size_t *bytes,
                               int32_t *n, ws_err *err)
{
    const cJSON *item;
    *count = *n = 0;
    *bytes = 0;
    cJSON_ArrayForEach(item, vocab)
    {
        uint64_t id;
        if (!ws_json_u64(item, &id) || id >= WS_TOK_MAX_IDS)
            return bad_id(err, item->string, "not a whole number below 2^21");
        ++*count;
        *bytes += strlen(item->string) + 1;
        if ((int32_t)id >= *n)
            *n = (int32_t)id + 1;
    }
    return WS_OK;
}

static ws_status read_vocab(ws_tokenizer *t, const cJSON *vocab, size_t n_added,
                            ws_err *err)
{
    if (!cJSON_IsObject(vocab))
        return ws_tok_fail(err, WS_E_HEADER, "model", "'vocab' is not an object");
    int32_t count, n;
    size_t bytes;
    ws_status st = vocab_measure(vocab, &count, &bytes, &n, err);
    if (st != WS_OK)
        return st;
    if (n_added > (size_t)(WS_TOK_MAX_IDS - count))
        return ws_tok_fail(err, WS_E_HEADER, "added_tokens", "too many");
    t->size = n;
    if (n < count + (int32_t)n_added)
        n = count + (int32_t)n_added;
    if ((st = ws_vocab_init(&t->vocab, n, count, err)) != WS_OK)
        return st;
    char *at = ws_arena_alloc(&t->arena, bytes + 1);
    if (at == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for %zu bytes of tokens", bytes);
    const cJSON *item;
    cJSON_ArrayForEach(item, vocab)
    {
        const size_t len = strlen(item->string);
        memcpy(at, item->string, len + 1);
        // keys do not repeat: the reader of JSON has seen to it
        if (!ws_vocab_add(&t->vocab, (ws_span){ at, len }, (int32_t)item->valuedouble))
            return bad_id(err, item->string, "another token's too");
        at += len + 1;
        if (len > t->bpe.longest)
            t->bpe.longest = len;
    }
    return WS_OK;
}

/** Both halves of a merge: "a b" or ["a", "b"]; false when it is neither. */
static bool merge_halves(const cJSON *item, ws_span *a, ws_span *b)
{
    if (cJSON_IsString(item)) {
        const char *s = item->valuestring, *gap = strchr(s, ' ');
        if (gap == NULL || strchr(gap + 1, ' ') != NULL)
            return false;
        *a = (ws_span){ s, (size_t)(gap - s) };
        *b = (ws_span){ gap + 1, strlen(gap + 1) };
        return true;
    }
    const cJSON *left = cJSON_IsArray(item) ? item->child : NULL;
    const cJSON *right = left != NULL ? left->next : NULL;
    if (right == NULL || right->next != NULL || !cJSON_IsString(left) ||
        !cJSON_IsString(right))
        return false;
    *a = (ws_span){ left->valuestring, strlen(left->valuestring) };
    *b = (ws_span){ right->valuestring, strlen(right->valuestring) };
    return true;
}

static bool ends_in_mark(ws_span s)
{
    return s.n >= 3 && memcmp(s.p + s.n - 3, "\xE2\x96\x81", 3) == 0;
}

static ws_status read_merge(ws_tokenizer *t, const cJSON *item, uint32_t rank,
                            ws_buf *joined, ws_err *err)
{
    const ws_span mark = { "\xE2\x96\x81", 3 };
    char where[40];
    ws_span a, b;
    snprintf(where, sizeof where, "model.merges[%u]", (unsigned)rank);
    if (!merge_halves(item, &a, &b))
        return ws_tok_fail(err, WS_E_HEADER, where, "not two tokens");
    joined->n = 0;
    ws_buf_add(joined, a.p, a.n);
    ws_buf_add(joined, b.p, b.n);
    if (joined->failed)
        return ws_fail(err, WS_E_MEMORY, "no memory for merges");
    const int32_t left = ws_vocab_find(&t->vocab, a);
    const int32_t right = ws_vocab_find(&t->vocab, b);
    const int32_t id = ws_vocab_find(&t->vocab, (ws_span){ joined->p, joined->n });
    if (left < 0 || right < 0 || id < 0) {
        char raw[64], shown[80];
        const ws_span bad = left < 0    ? a
                            : right < 0 ? b
                                        : (ws_span){ joined->p, joined->n };
        snprintf(raw, sizeof raw, "%.*s", (int)(bad.n < 60 ? bad.n : 60), bad.p);
        ws_show(raw, shown, sizeof shown);
        return ws_tok_fail(err, WS_E_HEADER, where, "'%s' is not in the vocabulary",
                           shown);
    }
    if (ws_span_starts(b, mark) && !ends_in_mark(a))
        t->bpe.cut_marks = false;
    ws_bpe_add(&t->bpe, left, right, rank, id);
    return WS_OK;
}

static ws_status read_merges(ws_tokenizer *t, const cJSON *merges, ws_err *err)
{
    if (!cJSON_IsArray(merges))
        return ws_tok_fail(err, WS_E_HEADER, "model", "'merges' is not a list");
    ws_buf joined = { 0 };
    ws_status st = ws_bpe_init(&t->bpe, (size_t)cJSON_GetArraySize(merges), err);
    uint32_t rank = 0;
    const cJSON *item;
    t->bpe.cut_marks = true;
    cJSON_ArrayForEach(item, merges)
    {
        if (st != WS_OK)
            break;
        if (cJSON_IsString(item) && strncmp(item->valuestring, "#version", 8) == 0)
            continue;
        st = read_merge(t, item, rank++, &joined, err);
    }
    ws_buf_free(&joined);
    return st;
}

/** Affixes of subwords: none, or they are refused. */
static ws_status refuse_affix(const cJSON *model, const char *key, ws_err *err)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(model, key);
    if (item == NULL || cJSON_IsNull(item) ||
        (cJSON_IsString(item) && *item->valuestring == '\0'))
        return WS_OK;
    return ws_tok_fail(err, WS_E_UNSUPPORTED, "model", "'%s' is not supported", key);
}

static ws_status read_unk(ws_tokenizer *t, const cJSON *model, ws_err *err)
{
    const cJSON *unk = cJSON_GetObjectItemCaseSensitive(model, "unk_token");
    t->bpe.unk = -1;
    if (unk == NULL || cJSON_IsNull(unk))
        return WS_OK;
    ws_span name = { 0 };
    const ws_status st = ws_tok_get_text(t, model, "model", "unk_token", &name, err);
    if (st != WS_OK)
        return st;
    const int32_t id = ws_vocab_find(&t->vocab, name);
    t->bpe.unk = id >= 0 ? id : -2;
    if (ends_in_mark(name))
        t->bpe.cut_marks = false;
    return WS_OK;
}

static ws_status read_model(ws_tokenizer *t, const cJSON *model, size_t n_added,
                            ws_err *err)
{
    if (!cJSON_IsObject(model))
        return ws_fail(err, WS_E_HEADER, "'model' is not an object");
    const cJSON *type = cJSON_GetObjectItemCaseSensitive(model, "type");
    if (type != NULL &&
        !(cJSON_IsString(type) && strcmp(type->valuestring, "BPE") == 0)) {
        char shown[80];
        ws_show(cJSON_IsString(type) ? type->valuestring : "?", shown, sizeof shown);
        return ws_tok_fail(err, WS_E_UNSUPPORTED, "model", "type '%s' is not supported",
                           shown);
    }
    ws_status st = refuse_affix(model, "continuing_subword_prefix", err);
    if (st == WS_OK)
        st = refuse_affix(model, "end_of_word_suffix", err);
    ws_bpe *b = &t->bpe;
    if (st == WS_OK)
        st = ws_tok_get_bool(model, "model", "fuse_unk", 0, &b->fuse_unk, err);
    if (st == WS_OK)
        st =
            ws_tok_get_bool(model, "model", "byte_fallback", 0, &b->byte_fallback, err);
    if (st == WS_OK)
        st =
            ws_tok_get_bool(model, "model", "ignore_merges", 0, &b->ignore_merges, err);
    if (st == WS_OK)
        st = read_vocab(t, cJSON_GetObjectItemCaseSensitive(model, "vocab"), n_added,
                        err);
    if (st == WS_OK)
        st = read_merges(t, cJSON_GetObjectItemCaseSensitive(model, "merges"), err);
    return st == WS_OK ? read_unk(t, model, err) : st;
}

/* ---- added tokens ---------------------------------------------------------------- */

static int compare_added(const void *x, const void *y)
{
    const ws_added *a = x, *b = y;
    const int order =
        memcmp(a->text.p, b->text.p, a->text.n < b->text.n ? a->text.n : b->text.n);
    return order != 0 ? order : (a->text.n > b->text.n) - (a->text.n < b->text.n);
}

static ws_status read_added_one(ws_tokenizer *t, const cJSON *item, const char *where,
                                ws_added *a, ws_err *err)
{
    ws_status st = ws_tok_get_text(t, item, where, "content", &a->text, err);
    if (st == WS_OK)
        st = ws_tok_get_bool(item, where, "special", 0, &a->special, err);
    if (st == WS_OK)
        st = ws_tok_get_bool(item, where, "single_word", 0, &a->single_word, err);
    if (st == WS_OK)
        st = ws_tok_get_bool(item, where, "lstrip", 0, &a->lstrip, err);
    if (st == WS_OK)
        st = ws_tok_get_bool(item, where, "rstrip", 0, &a->rstrip, err);
    if (st == WS_OK)
        st = ws_tok_get_bool(item, where, "normalized", a->special ? 0 : 1,
                             &a->normalized, err);
    if (st == WS_OK && a->text.n > WS_TOK_MAX_ADDED)
        st = ws_tok_fail(err, WS_E_UNSUPPORTED, where,
                         "a token of %zu bytes, at most %d are supported", a->text.n,
                         WS_TOK_MAX_ADDED);
    return st;
}

static ws_status bad_added(ws_err *err, ws_status st, const ws_added *a,
                           const char *what)
{
    char shown[80];
    ws_show(a->text.p, shown, sizeof shown);
    return ws_tok_fail(err, st, "added_tokens", "'%s' %s", shown, what);
}

/** What is looked for in the text: the spelling, normalized where it says so. */
static ws_status find_spelling(ws_tokenizer *t, ws_added *a, ws_matcher *m,
                               ws_buf_pair *scratch, ws_err *err)
{
    a->found = a->text;
    if (!a->normalized || t->normalizer.n == 0)
        return WS_OK;
    ws_span normal;
    ws_status st = ws_normalize(&t->normalizer, m, a->text, scratch, &normal, err);
    if (st != WS_OK)
        return st;
    if (normal.n == 0 || normal.n > WS_TOK_MAX_TEXT)
        return bad_added(err, WS_E_UNSUPPORTED, a,
                         normal.n == 0 ? "is nothing when normalized"
                                       : "is too long when normalized");
    char *copy = ws_arena_alloc(&t->arena, normal.n + 1);
    if (copy == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for added tokens");
    memcpy(copy, normal.p, normal.n);
    a->found = (ws_span){ copy, normal.n };
    return WS_OK;
}

/** Ids, order, and the tries. */
static ws_status place_added(ws_tokenizer *t, ws_err *err)
{
    int32_t next = t->vocab.count;
    for (size_t i = 0; i < t->n_added; i++) {
        ws_added *a = &t->added[i];
        a->id = ws_vocab_find(&t->vocab, a->text);
        if (a->id < 0)
            a->id = next++;
    }
    qsort(t->added, t->n_added, sizeof *t->added, compare_added);
    if (t->size < next)
        t->size = next;
    t->added_at = ws_arena_calloc(&t->arena, (size_t)t->size + 1, sizeof *t->added_at);
    if (t->added_at == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for added tokens");
    memset(t->added_at, 0xFF, ((size_t)t->size + 1) * sizeof *t->added_at);
    ws_matcher m = { 0 };
    ws_buf_pair scratch = { 0 };
    ws_status st = WS_OK;
    for (size_t i = 0; i < t->n_added && st == WS_OK; i++) {
        ws_added *a = &t->added[i];
        if (i > 0 && compare_added(a - 1, a) == 0)
            st = bad_added(err, WS_E_HEADER, a, "stands twice");
        t->added_at[a->id] = (int32_t)i;
        if (st == WS_OK)
            st = find_spelling(t, a, &m, &scratch, err);
        if (st == WS_OK)
            st = ws_trie_add(a->normalized ? &t->normal : &t->raw, a->found,
                             (uint32_t)i, err);
        if (st == WS_OK && a->single_word && t->word == NULL) {
            static const char word[] = "[" WS_CLASS_WORD "\\x{200c}\\x{200d}]";
            st = ws_regex_pcre(&t->word, word, sizeof word - 1, err);
        }
    }
    ws_matcher_free(&m);
    ws_buf_free(&scratch.buf[0]);
    ws_buf_free(&scratch.buf[1]);
    return st;
}

static ws_status read_added(ws_tokenizer *t, const cJSON *list, size_t n, ws_err *err)
{
    t->added = ws_arena_calloc(&t->arena, n + 1, sizeof *t->added);
    if (t->added == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for %zu added tokens", n);
    int i = 0;
    const cJSON *item;
    cJSON_ArrayForEach(item, list)
    {
        char where[40];
        snprintf(where, sizeof where, "added_tokens[%d]", i++);
        ws_added *a = &t->added[t->n_added];
        const ws_status st = read_added_one(t, item, where, a, err);
        if (st != WS_OK)
            return st;
        t->n_added += a->text.n > 0; // an empty one is none
    }
    return place_added(t, err);
}

/* ---- the file -------------------------------------------------------------------- */

typedef ws_status (*read_part)(ws_tokenizer *t, const cJSON *item, ws_err *err);

static ws_status read_root(ws_tokenizer *t, const cJSON *root, ws_err *err)
{
    static const struct {
        const char *key;
        read_part read;
    } parts[] = { { "normalizer", ws_tok_read_normalizer },
                  { "pre_tokenizer", ws_tok_read_pre },
                  { "post_processor", ws_tok_read_post },
                  { "decoder", ws_tok_read_decoder } };
    const cJSON *version = cJSON_GetObjectItemCaseSensitive(root, "version");
    const cJSON *added = cJSON_GetObjectItemCaseSensitive(root, "added_tokens");
    if (!cJSON_IsObject(root))
        return ws_fail(err, WS_E_HEADER, "tokenizer.json is not an object");
    if (version != NULL &&
        !(cJSON_IsString(version) && strcmp(version->valuestring, "1.0") == 0))
        return ws_fail(err, WS_E_UNSUPPORTED, "'version' is not \"1.0\"");
    if (added != NULL && !cJSON_IsArray(added))
        return ws_fail(err, WS_E_HEADER, "'added_tokens' is not a list");
    const size_t n_added = (size_t)cJSON_GetArraySize(added);
    ws_status st =
        read_model(t, cJSON_GetObjectItemCaseSensitive(root, "model"), n_added, err);
    for (size_t i = 0; i < sizeof parts / sizeof *parts && st == WS_OK; i++) {
        const cJSON *item = cJSON_GetObjectItemCaseSensitive(root, parts[i].key);
        if (item != NULL && !cJSON_IsNull(item))
            st = parts[i].read(t, item, err);
    }
    if (st == WS_OK)
        st = read_added(t, added, n_added, err);
    if (st != WS_OK)
        return st;
    ws_bpe_finish(&t->bpe, &t->vocab);
    t->roles = (ws_token_roles){ .bos = t->n_prefix > 0 ? t->prefix[0] : -1,
                                 .eos = -1,
                                 .unk = t->bpe.unk >= 0 ? t->bpe.unk : -1,
                                 .pad = -1 };
    return WS_OK;
}

static ws_status make(ws_tokenizer **out, const cJSON *root, ws_err *err)
{
    ws_tokenizer *t = ws_calloc(1, sizeof *t);
    if (t == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for a tokenizer");
    const ws_status st = read_root(t, root, err);
    if (st == WS_OK)
        *out = t;
    else
        ws_tokenizer_free(t);
    return st;
}

ws_status ws_tokenizer_parse(ws_tokenizer **out, const char *text, size_t len,
                             ws_err *err)
{
    cJSON *root = NULL;
    ws_status st = ws_json_parse(&root, text, len, err);
    if (st == WS_OK)
        st = make(out, root, err);
    cJSON_Delete(root);
    return st;
}

/** The id of the token that @p key names (a string, or an object with its content);
 * where the key is absent *id stays. */
static void role(const ws_tokenizer *t, const cJSON *config, const char *key,
                 int32_t *id)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(config, key);
    if (item == NULL)
        return;
    if (cJSON_IsObject(item))
        item = cJSON_GetObjectItemCaseSensitive(item, "content");
    *id = cJSON_IsString(item)
              ? ws_tokenizer_id(t, item->valuestring, strlen(item->valuestring))
              : -1;
}

/** The roles that tokenizer_config.json at @p path gives; it may be absent. */
static ws_status read_roles(ws_tokenizer *t, const char *path, ws_err *err)
{
    struct stat sb;
    if (stat(path, &sb) != 0 && errno == ENOENT)
        return WS_OK;
    cJSON *config = NULL;
    const ws_status st = ws_json_read(&config, path, MAX_CONFIG, err);
    if (st == WS_OK) {
        role(t, config, "bos_token", &t->roles.bos);
        role(t, config, "eos_token", &t->roles.eos);
        role(t, config, "unk_token", &t->roles.unk);
        role(t, config, "pad_token", &t->roles.pad);
    }
    cJSON_Delete(config);
    return st;
}

/** Open @p file, with the roles from the file @p config. */
static ws_status open_files(ws_tokenizer **out, const char *file, const char *config,
                            ws_err *err)
{
    ws_tokenizer *t = NULL;
    cJSON *root = NULL;
    ws_status st = ws_json_read(&root, file, WS_TOK_MAX_FILE, err);
    if (st == WS_OK) {
        st = make(&t, root, err);
        if (st != WS_OK)
            ws_err_at(err, file, NULL, -1);
    }
    cJSON_Delete(root);
    if (st == WS_OK)
        st = read_roles(t, config, err);
    if (st == WS_OK)
        *out = t;
    else
        ws_tokenizer_free(t);
    return st;
}

ws_status ws_tokenizer_open(ws_tokenizer **out, const char *path, ws_err *err)
{
    struct stat sb;
    ws_buf file = { 0 }, config = { 0 };
    const bool folder = stat(path, &sb) == 0 && S_ISDIR(sb.st_mode);
    const char *slash = strrchr(path, '/');
    ws_buf_puts(&file, path);
    ws_buf_puts(&file, folder ? "/tokenizer.json" : "");
    ws_buf_add(&config, path,
               folder          ? strlen(path)
               : slash != NULL ? (size_t)(slash - path)
                               : 0);
    ws_buf_puts(&config, folder || slash != NULL ? "/tokenizer_config.json"
                                                 : "tokenizer_config.json");
    ws_status st;
    if (file.failed || config.failed) {
        st = ws_fail(err, WS_E_MEMORY, "no memory for a path");
    } else if (folder && stat(file.p, &sb) != 0 && errno == ENOENT) {
        st = ws_fail(err, WS_E_MISSING, "'tokenizer.json' is not in the directory");
        ws_err_at(err, path, NULL, -1);
        ws_err_hint(err, "only tokenizer.json is read; transformers writes it from "
                         "other tokenizer files with save_pretrained()");
    } else {
        st = open_files(out, file.p, config.p, err);
    }
    ws_buf_free(&file);
    ws_buf_free(&config);
    return st;
}
