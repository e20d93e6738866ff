/*
 * tokenizer_parts.c - normalizer, pre-tokenizer, post-processor and decoder of the file
 *
 * A component, or each member of a Sequence, becomes one or more steps. What is not
 * known here is refused with its place in the file.
 */
#include <stdio.h>

#include "base/json.h"
#include "model/tokenizer_internal.h"

/** The regex of GPT-2, which ByteLevel implies. */
static const char byte_level_regex[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| "
                                       "?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

typedef ws_status (*read_one)(ws_tokenizer *t, const cJSON *o, const char *where,
                              const char *type, ws_steps *steps, ws_err *err);

/* ---- members --------------------------------------------------------------------- */

/** One more step, zeroed; read_chain() has seen to the room. */
static ws_step *step_new(ws_steps *steps, ws_step_kind kind)
{
    ws_step *s = &steps->step[steps->n++];
    *s = (ws_step){ .kind = kind };
    return s;
}

/** A whole number up to @p most, or 0 where it is absent. */
static ws_status get_count(const cJSON *o, const char *where, const char *key,
                           size_t *out, ws_err *err)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(o, key);
    uint64_t v = 0;
    if (item == NULL || !ws_json_u64(item, &v))
        return ws_tok_fail(err, WS_E_HEADER, where, "'%s' is not a whole number", key);
    *out = v > WS_TOK_MAX_TEXT ? WS_TOK_MAX_TEXT : (size_t)v;
    return WS_OK;
}

/** Text that a step puts in: of bounded length. */
static ws_status get_with(ws_tokenizer *t, const cJSON *o, const char *where,
                          const char *key, ws_span *out, ws_err *err)
{
    const ws_status st = ws_tok_get_text(t, o, where, key, out, err);
    if (st == WS_OK && out->n > WS_TOK_MAX_TEXT)
        return ws_tok_fail(err, WS_E_UNSUPPORTED, where,
                           "'%s' has %zu bytes, at most %d are supported", key, out->n,
                           WS_TOK_MAX_TEXT);
    return st;
}

/** Text that must be one character. */
static ws_status get_char(ws_tokenizer *t, const cJSON *o, const char *where,
                          const char *key, ws_span *out, ws_err *err)
{
    const ws_status st = ws_tok_get_text(t, o, where, key, out, err);
    size_t size = 0;
    if (st == WS_OK && out->n > 0)
        ws_utf8_get(out->p, out->n, &size);
    if (st == WS_OK && (out->n == 0 || size != out->n))
        return ws_tok_fail(err, WS_E_HEADER, where, "'%s' is not one character", key);
    return st;
}

/** {"String": text} or {"Regex": regex}. Text alone stays text where @p literal. */
static ws_status get_pattern(ws_tokenizer *t, const cJSON *o, const char *where,
                             bool literal, ws_step *s, ws_err *err)
{
    const cJSON *pattern = cJSON_GetObjectItemCaseSensitive(o, "pattern");
    const cJSON *text = cJSON_GetObjectItemCaseSensitive(pattern, "String");
    const cJSON *regex = cJSON_GetObjectItemCaseSensitive(pattern, "Regex");
    const char *key = text != NULL ? "String" : "Regex";
    if (!cJSON_IsObject(pattern) || (text != NULL) == (regex != NULL))
        return ws_tok_fail(err, WS_E_HEADER, where,
                           "'pattern' is neither a String nor a Regex");
    ws_span p;
    ws_status st = ws_tok_get_text(t, pattern, where, key, &p, err);
    if (st != WS_OK)
        return st;
    if (p.n == 0 || p.n > WS_TOK_MAX_TEXT)
        return ws_tok_fail(err, WS_E_UNSUPPORTED, where,
                           "a pattern of %zu bytes, 1 to %d are supported", p.n,
                           WS_TOK_MAX_TEXT);
    if (text != NULL && literal) {
        s->text = p;
        return WS_OK;
    }
    ws_err why = WS_ERR_INIT;
    st = text != NULL ? ws_regex_literal(&s->regex, p.p, p.n, &why)
                      : ws_regex_new(&s->regex, p.p, p.n, &why);
    return st == WS_OK ? WS_OK : ws_tok_fail(err, st, where, "%s", why.msg);
}

/** Run @p one over a component, or over the members of a Sequence of them. */
static ws_status read_chain(ws_tokenizer *t, const cJSON *o, const char *where,
                            const char *members, int depth, read_one one,
                            ws_steps *steps, ws_err *err)
{
    ws_span type;
    ws_status st = ws_tok_get_text(t, o, where, "type", &type, err);
    if (st != WS_OK)
        return st;
    if (steps->n > WS_TOK_MAX_STEPS - 4) // a component has three at most
        return ws_tok_fail(err, WS_E_UNSUPPORTED, where, "more than %d parts",
                           WS_TOK_MAX_STEPS - 4);
    if (strcmp(type.p, "Sequence") != 0)
        return one(t, o, where, type.p, steps, err);
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(o, members), *item;
    if (!cJSON_IsArray(list))
        return ws_tok_fail(err, WS_E_HEADER, where, "'%s' is not a list", members);
    if (depth == 4)
        return ws_tok_fail(err, WS_E_UNSUPPORTED, where, "Sequences nested too deep");
    int i = 0;
    cJSON_ArrayForEach(item, list)
    {
        char place[160];
        snprintf(place, sizeof place, "%.100s.%s[%d]", where, members, i++);
        st = read_chain(t, item, place, members, depth + 1, one, steps, err);
        if (st != WS_OK)
            return st;
    }
    return WS_OK;
}

static ws_status unknown(const char *where, const char *what, const char *type,
                         ws_err *err)
{
    char shown[80];
    ws_show(type, shown, sizeof shown);
    return ws_tok_fail(err, WS_E_UNSUPPORTED, where, "the %s '%s' is not supported",
                       what, shown);
}

/* ---- normalizer ------------------------------------------------------------------ */

static ws_status normalizer_one(ws_tokenizer *t, const cJSON *o, const char *where,
                                const char *type, ws_steps *steps, ws_err *err)
{
    static const char *const forms[] = { "NFD", "NFKD", "NFC", "NFKC" };
    ws_step *s = step_new(steps, WS_STEP_FORM);
    ws_status st;
    for (int i = 0; i < 4; i++) {
        if (strcmp(type, forms[i]) == 0) {
            s->compat = i & 1;
            s->compose = i > 1;
            return WS_OK;
        }
    }
    if (strcmp(type, "Lowercase") == 0) {
        s->kind = WS_STEP_LOWERCASE;
        return WS_OK;
    }
    if (strcmp(type, "Strip") == 0) {
        s->kind = WS_STEP_STRIP;
        bool left = false, right = false;
        st = ws_tok_get_bool(o, where, "strip_left", 2, &left, err);
        if (st == WS_OK)
            st = ws_tok_get_bool(o, where, "strip_right", 2, &right, err);
        s->left = left;
        s->right = right;
        return st;
    }
    if (strcmp(type, "Prepend") == 0) {
        s->kind = WS_STEP_PREPEND;
        return get_with(t, o, where, "prepend", &s->with, err);
    }
    if (strcmp(type, "Replace") != 0)
        return unknown(where, "normalizer", type, err);
    s->kind = WS_STEP_REPLACE;
    st = get_with(t, o, where, "content", &s->with, err);
    return st == WS_OK ? get_pattern(t, o, where, true, s, err) : st;
}

ws_status ws_tok_read_normalizer(ws_tokenizer *t, const cJSON *item, ws_err *err)
{
    return read_chain(t, item, "normalizer", "normalizers", 0, normalizer_one,
                      &t->normalizer, err);
}

/* ---- pre-tokenizer --------------------------------------------------------------- */

/** A split at what a regex of our own finds. */
static ws_status split_class(ws_steps *steps, const char *regex,
                             ws_split_behavior behavior, ws_err *err)
{
    ws_step *s = step_new(steps, WS_STEP_SPLIT);
    s->behavior = behavior;
    return ws_regex_pcre(&s->regex, regex, strlen(regex), err);
}

static ws_status get_behavior(ws_tokenizer *t, const cJSON *o, const char *where,
                              ws_split_behavior *out, ws_err *err)
{
    static const char *const names[] = { [WS_SPLIT_REMOVED] = "Removed",
                                         [WS_SPLIT_ISOLATED] = "Isolated",
                                         [WS_SPLIT_PREVIOUS] = "MergedWithPrevious",
                                         [WS_SPLIT_NEXT] = "MergedWithNext",
                                         [WS_SPLIT_CONTIGUOUS] = "Contiguous" };
    ws_span name;
    const ws_status st = ws_tok_get_text(t, o, where, "behavior", &name, err);
    if (st != WS_OK)
        return st;
    for (int i = 0; i < 5; i++) {
        if (strcmp(name.p, names[i]) == 0) {
            *out = (ws_split_behavior)i;
            return WS_OK;
        }
    }
    return unknown(where, "behavior", name.p, err);
}

static ws_status pre_split(ws_tokenizer *t, const cJSON *o, const char *where,
                           ws_steps *steps, ws_err *err)
{
    ws_step *s = step_new(steps, WS_STEP_SPLIT);
    ws_status st = get_behavior(t, o, where, &s->behavior, err);
    if (st == WS_OK)
        st = ws_tok_get_bool(o, where, "invert", 2, &s->invert, err);
    return st == WS_OK ? get_pattern(t, o, where, false, s, err) : st;
}

static ws_status pre_byte_level(const cJSON *o, const char *where, ws_steps *steps,
                                ws_err *err)
{
    bool space = false, regex = false;
    ws_status st = ws_tok_get_bool(o, where, "add_prefix_space", 2, &space, err);
    if (st == WS_OK)
        st = ws_tok_get_bool(o, where, "use_regex", 1, &regex, err);
    if (st != WS_OK)
        return st;
    if (space)
        step_new(steps, WS_STEP_SPACE);
    if (regex) {
        ws_step *s = step_new(steps, WS_STEP_SPLIT);
        s->behavior = WS_SPLIT_ISOLATED;
        st =
            ws_regex_new(&s->regex, byte_level_regex, sizeof byte_level_regex - 1, err);
    }
    step_new(steps, WS_STEP_BYTES);
    return st;
}

/** .replacement and .prepend_scheme of a Metaspace; older files have add_prefix_space.
 */
static ws_status get_meta(ws_tokenizer *t, const cJSON *o, const char *where,
                          ws_span *mark, ws_meta_scheme *scheme, ws_err *err)
{
    static const char *const names[] = { "never", "first", "always" };
    ws_span name = { "always", 6 };
    bool prefix = true;
    ws_status st = get_char(t, o, where, "replacement", mark, err);
    if (st == WS_OK && cJSON_GetObjectItemCaseSensitive(o, "prepend_scheme") != NULL)
        st = ws_tok_get_text(t, o, where, "prepend_scheme", &name, err);
    if (st == WS_OK)
        st = ws_tok_get_bool(o, where, "add_prefix_space", 1, &prefix, err);
    if (st != WS_OK)
        return st;
    int i = 0;
    while (i < 3 && strcmp(name.p, names[i]) != 0)
        i++;
    if (i == 3)
        return unknown(where, "prepend_scheme", name.p, err);
    if (!prefix && i != WS_META_NEVER)
        return ws_tok_fail(err, WS_E_HEADER, where,
                           "add_prefix_space is false, prepend_scheme '%s'", names[i]);
    *scheme = (ws_meta_scheme)i;
    return WS_OK;
}

static ws_status pre_metaspace(ws_tokenizer *t, const cJSON *o, const char *where,
                               ws_steps *steps, ws_err *err)
{
    ws_step *s = step_new(steps, WS_STEP_META);
    bool cut = false;
    ws_status st = get_meta(t, o, where, &s->with, &s->scheme, err);
    if (st == WS_OK)
        st = ws_tok_get_bool(o, where, "split", 1, &cut, err);
    if (st != WS_OK || !cut)
        return st;
    const ws_span mark = s->with;
    s = step_new(steps, WS_STEP_SPLIT);
    s->behavior = WS_SPLIT_NEXT;
    return ws_regex_literal(&s->regex, mark.p, mark.n, err);
}

static ws_status pre_one(ws_tokenizer *t, const cJSON *o, const char *where,
                         const char *type, ws_steps *steps, ws_err *err)
{
    static const char space[] = "[" WS_CLASS_SPACE "]";
    static const char punctuation[] = "[!-/:-@\\[-`{-~\\p{P}]";
    ws_status st;
    if (strcmp(type, "ByteLevel") == 0)
        return pre_byte_level(o, where, steps, err);
    if (strcmp(type, "Split") == 0)
        return pre_split(t, o, where, steps, err);
    if (strcmp(type, "Metaspace") == 0)
        return pre_metaspace(t, o, where, steps, err);
    if (strcmp(type, "Digits") == 0) {
        bool each = false;
        st = ws_tok_get_bool(o, where, "individual_digits", 2, &each, err);
        return st != WS_OK
                   ? st
                   : split_class(steps, "\\p{N}",
                                 each ? WS_SPLIT_ISOLATED : WS_SPLIT_CONTIGUOUS, err);
    }
    if (strcmp(type, "WhitespaceSplit") == 0)
        return split_class(steps, space, WS_SPLIT_REMOVED, err);
    if (strcmp(type, "Whitespace") == 0) { // what lies between words and signs goes
        static const char blank[] =
            "[" WS_CLASS_WORD "\\x{200c}\\x{200d}]+|"
            "[^" WS_CLASS_WORD "\\x{200c}\\x{200d}" WS_CLASS_SPACE "]+";
        st = split_class(steps, blank, WS_SPLIT_REMOVED, err);
        steps->step[steps->n - 1].invert = true;
        return st;
    }
    if (strcmp(type, "Punctuation") == 0) {
        ws_split_behavior b = WS_SPLIT_ISOLATED;
        st = WS_OK;
        if (cJSON_GetObjectItemCaseSensitive(o, "behavior") != NULL)
            st = get_behavior(t, o, where, &b, err);
        return st == WS_OK ? split_class(steps, punctuation, b, err) : st;
    }
    if (strcmp(type, "BertPreTokenizer") != 0)
        return unknown(where, "pre-tokenizer", type, err);
    st = split_class(steps, space, WS_SPLIT_REMOVED, err);
    return st == WS_OK ? split_class(steps, punctuation, WS_SPLIT_ISOLATED, err) : st;
}

ws_status ws_tok_read_pre(ws_tokenizer *t, const cJSON *item, ws_err *err)
{
    ws_steps *s = &t->pre;
    const ws_status st =
        read_chain(t, item, "pre_tokenizer", "pretokenizers", 0, pre_one, s, err);
    // bytes that are letters only for the model stay bytes
    if (st == WS_OK && s->n > 0 && s->step[s->n - 1].kind == WS_STEP_BYTES) {
        s->n--;
        t->bpe.bytes = true;
    }
    return st;
}

/* ---- decoder --------------------------------------------------------------------- */

static ws_status decoder_one(ws_tokenizer *t, const cJSON *o, const char *where,
                             const char *type, ws_steps *steps, ws_err *err)
{
    ws_step *s = step_new(steps, WS_STEP_FUSE);
    ws_status st;
    if (strcmp(type, "Fuse") == 0)
        return WS_OK;
    if (strcmp(type, "ByteLevel") == 0) {
        s->kind = WS_STEP_BYTE_LEVEL;
        return WS_OK;
    }
    if (strcmp(type, "ByteFallback") == 0) {
        s->kind = WS_STEP_BYTE_FALLBACK;
        return WS_OK;
    }
    if (strcmp(type, "Metaspace") == 0) {
        s->kind = WS_STEP_UNMETA;
        return get_meta(t, o, where, &s->text, &s->scheme, err);
    }
    if (strcmp(type, "Strip") == 0) {
        s->kind = WS_STEP_TRIM;
        st = get_char(t, o, where, "content", &s->text, err);
        if (st == WS_OK)
            st = get_count(o, where, "start", &s->left, err);
        return st == WS_OK ? get_count(o, where, "stop", &s->right, err) : st;
    }
    if (strcmp(type, "Replace") != 0)
        return unknown(where, "decoder", type, err);
    s->kind = WS_STEP_REPLACE;
    st = get_with(t, o, where, "content", &s->with, err);
    return st == WS_OK ? get_pattern(t, o, where, true, s, err) : st;
}

ws_status ws_tok_read_decoder(ws_tokenizer *t, const cJSON *item, ws_err *err)
{
    t->has_decoder = true;
    return read_chain(t, item, "decoder", "decoders", 0, decoder_one, &t->decoder, err);
}

/* ---- post-processor -------------------------------------------------------------- */

static ws_status append_id(int32_t *list, size_t *n, const cJSON *id, const char *where,
                           ws_err *err)
{
    uint64_t v;
    if (!ws_json_u64(id, &v) || v >= WS_TOK_MAX_IDS)
        return ws_tok_fail(err, WS_E_HEADER, where, "'ids' holds no token id");
    list[(*n)++] = (int32_t)v;
    return WS_OK;
}

/** Append the ids of the special token that @p piece names. */
static ws_status template_token(const cJSON *o, const cJSON *piece, const char *where,
                                int32_t **list, size_t *n, ws_arena *arena, ws_err *err)
{
    const cJSON *tokens = cJSON_GetObjectItemCaseSensitive(o, "special_tokens");
    const cJSON *name = cJSON_GetObjectItemCaseSensitive(piece, "id");
    const cJSON *entry =
        cJSON_IsString(name)
            ? cJSON_GetObjectItemCaseSensitive(tokens, name->valuestring)
            : NULL;
    const cJSON *ids = cJSON_GetObjectItemCaseSensitive(entry, "ids"), *id;
    if (!cJSON_IsArray(ids))
        return ws_tok_fail(err, WS_E_HEADER, where,
                           "'single' names a token that 'special_tokens' lacks");
    int32_t *grown =
        ws_arena_calloc(arena, *n + (size_t)cJSON_GetArraySize(ids) + 1, sizeof *grown);
    if (grown == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for a template");
    if (*n > 0)
        memcpy(grown, *list, *n * sizeof *grown);
    *list = grown;
    ws_status st = WS_OK;
    cJSON_ArrayForEach(id, ids)
    {
        if (st == WS_OK)
            st = append_id(grown, n, id, where, err);
    }
    return st;
}

static ws_status post_template(ws_tokenizer *t, const cJSON *o, const char *where,
                               ws_err *err)
{
    const cJSON *single = cJSON_GetObjectItemCaseSensitive(o, "single"), *piece;
    if (!cJSON_IsArray(single))
        return ws_tok_fail(err, WS_E_HEADER, where, "'single' is not a list");
    if (cJSON_GetArraySize(single) > WS_TOK_MAX_STEPS)
        return ws_tok_fail(err, WS_E_UNSUPPORTED, where,
                           "'single' has more than %d parts", WS_TOK_MAX_STEPS);
    bool text = false;
    cJSON_ArrayForEach(piece, single)
    {
        const cJSON *seq = cJSON_GetObjectItemCaseSensitive(piece, "Sequence");
        const cJSON *tok = cJSON_GetObjectItemCaseSensitive(piece, "SpecialToken");
        const cJSON *id = cJSON_GetObjectItemCaseSensitive(seq, "id");
        if (tok != NULL) {
            const ws_status st =
                template_token(o, tok, where, text ? &t->suffix : &t->prefix,
                               text ? &t->n_suffix : &t->n_prefix, &t->arena, err);
            if (st != WS_OK)
                return st;
        } else if (text || !cJSON_IsString(id) || strcmp(id->valuestring, "A") != 0) {
            return ws_tok_fail(err, WS_E_UNSUPPORTED, where,
                               "'single' is not one Sequence A among special tokens");
        } else {
            text = true;
        }
    }
    return text
               ? WS_OK
               : ws_tok_fail(err, WS_E_UNSUPPORTED, where, "'single' lacks a Sequence");
}

static ws_status post_one(ws_tokenizer *t, const cJSON *o, const char *where,
                          const char *type, ws_steps *seen, ws_err *err)
{
    if (strcmp(type, "ByteLevel") == 0) // it moves offsets only
        return WS_OK;
    if (strcmp(type, "TemplateProcessing") != 0)
        return unknown(where, "post-processor", type, err);
    if (seen->n++ > 0)
        return ws_tok_fail(err, WS_E_UNSUPPORTED, where, "a second template");
    return post_template(t, o, where, err);
}

ws_status ws_tok_read_post(ws_tokenizer *t, const cJSON *item, ws_err *err)
{
    ws_steps *seen = ws_arena_alloc(&t->arena, sizeof *seen);
    if (seen == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for a template");
    return read_chain(t, item, "post_processor", "processors", 0, post_one, seen, err);
}
