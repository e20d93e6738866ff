/*
 * data_record.c - one line of JSONL as documents of token ids
 *
 *   text                          bos text eos
 *   prompt, completion            bos prompt completion eos; scored behind what prompt
 *                                 alone shares with it
 *   messages                      rendered; scored all, or the assistant's turns
 *   prompt, chosen, rejected      two of prompt, completion
 *
 * Departures from TRL: where encoding prompt and completion together does not begin
 * with the ids of the prompt, the tokens from the first that differs on are scored, so
 * that none of the completion is left out.
 */
#include <string.h>

#include "train/data_internal.h"

enum { MOST_TURNS = 1024 };

struct ws_record {
    ws_data *d;
    ws_source *s;
    ws_encoder *e;
    ws_ids ids, prefix; // of the document, and of what comes before what is scored
    bool *mask;         // (cap_mask)
    size_t cap_mask;
    ws_buf text, joined;
    ws_message turn[MOST_TURNS];
    ws_chat_part part[MOST_TURNS];
    ws_token_roles roles;
};

ws_status ws_record_new(ws_record **out, ws_data *d, ws_source *s, ws_err *err)
{
    ws_record *r = ws_calloc(1, sizeof *r);

    if (!r)
        return ws_fail(err, WS_E_MEMORY, "out of memory");
    r->d = d;
    r->s = s;
    r->roles = ws_tokenizer_roles(d->t);
    const ws_status st = ws_encoder_new(&r->e, d->t, err);
    if (st)
        ws_record_free(r);
    else
        *out = r;
    return st;
}

void ws_record_free(ws_record *r)
{
    if (!r)
        return;
    ws_encoder_free(r->e);
    ws_ids_free(&r->ids);
    ws_ids_free(&r->prefix);
    ws_free(r->mask);
    ws_buf_free(&r->text);
    ws_buf_free(&r->joined);
    ws_free(r);
}

static ws_status ids_push(ws_ids *ids, int32_t id, ws_err *err)
{
    if (ids->n == ids->cap) {
        const size_t cap = ids->cap ? 2 * ids->cap : 64;
        int32_t *p = ws_realloc(ids->p, cap * sizeof *p);
        if (!p)
            return ws_fail(err, WS_E_MEMORY, "out of memory");
        ids->p = p;
        ids->cap = cap;
    }
    ids->p[ids->n++] = id;
    return WS_OK;
}

ws_status ws_record_bos(ws_record *r, ws_ids *ids, ws_err *err)
{
    const ws_data_opts *o = &r->d->o;
    size_t n = 0;
    const int32_t *p = ws_tokenizer_prefix(r->d->t, &n);
    ws_status st = WS_OK;

    if (o->bos == WS_BOS_EACH) {
        if (r->roles.bos < 0)
            return ws_fail(err, WS_E_MISSING, "the tokenizer has no bos token");
        return ids_push(ids, r->roles.bos, err);
    }
    for (size_t i = 0; st == WS_OK && o->bos == WS_BOS_AUTO && i < n; i++)
        st = ids_push(ids, p[i], err);
    return st;
}

static ws_status eos_push(ws_record *r, bool completion, ws_err *err)
{
    const ws_data_opts *o = &r->d->o;
    const int32_t eos = r->roles.eos;
    size_t n = 0;
    const int32_t *p = ws_tokenizer_suffix(r->d->t, &n);
    ws_status st = WS_OK;

    if (o->eos == WS_EOS_NONE || (o->eos == WS_EOS_COMPLETION && !completion))
        return WS_OK;
    if (eos < 0) { // what the post-processor puts there, if anything
        for (size_t i = 0; st == WS_OK && i < n; i++)
            st = ids_push(&r->ids, p[i], err);
        return st;
    }
    if (r->ids.n > 0 && r->ids.p[r->ids.n - 1] == eos)
        return WS_OK;
    return ids_push(&r->ids, eos, err);
}

/* ---- the document at hand ---- */

static ws_status mask_reserve(ws_record *r, ws_err *err)
{
    if (r->ids.n > r->cap_mask) {
        bool *p = ws_realloc(r->mask, 2 * r->ids.n * sizeof *p);
        if (!p)
            return ws_fail(err, WS_E_MEMORY, "out of memory");
        r->mask = p;
        r->cap_mask = 2 * r->ids.n;
    }
    memset(r->mask, 0, r->ids.n * sizeof *r->mask);
    return WS_OK;
}

/** How many ids the document and the prefix share. */
static size_t shared(const ws_record *r)
{
    const size_t most = r->ids.n < r->prefix.n ? r->ids.n : r->prefix.n;
    size_t n = 0;

    while (n < most && r->ids.p[n] == r->prefix.p[n])
        n++;
    return n;
}

/** Cut to what a row holds. */
static void truncate_ids(ws_record *r)
{
    const size_t most = (size_t)r->d->o.length + 1;

    if (r->ids.n <= most)
        return;
    r->d->info.truncated++;
    r->d->info.lost += r->ids.n - most;
    r->ids.n = most;
}

static bool has_target(const ws_record *r, bool masked)
{
    if (!masked)
        return r->ids.n >= 2;
    for (size_t i = 1; i < r->ids.n; i++)
        if (r->mask[i])
            return true;
    return false;
}

/** Add the document, or count it as skipped. */
static ws_status document_end(ws_record *r, bool masked, ws_err *err)
{
    if (r->s->kind != WS_DATA_TEXT)
        truncate_ids(r);
    if (!has_target(r, masked)) {
        r->d->info.skipped++;
        return WS_OK;
    }
    return ws_source_add(r->d, r->s, &r->ids, masked ? r->mask : NULL, err);
}

/* ---- fields ---- */

static const cJSON *field(const cJSON *line, const char *key)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(line, key);
    return cJSON_IsNull(v) ? NULL : v;
}

static ws_status text_of(const cJSON *line, const char *key, const char **out,
                         ws_err *err)
{
    const cJSON *v = field(line, key);

    if (!cJSON_IsString(v))
        return ws_fail(err, WS_E_HEADER, "'%s' is no text", key);
    *out = v->valuestring;
    return WS_OK;
}

/** Names of roles in the dialects of JSONL. */
static const char *role_of(const char *role)
{
    static const char *const pairs[][2] = {
        { "human", "user" },
        { "gpt", "assistant" },
        { "model", "assistant" },
        { "bot", "assistant" },
    };

    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        if (strcmp(role, pairs[i][0]) == 0)
            return pairs[i][1];
    return role;
}

static ws_status turn_read(const cJSON *m, ws_message *out, ws_err *err)
{
    const bool sharegpt = field(m, "from") != NULL;
    const cJSON *role = field(m, sharegpt ? "from" : "role");
    const cJSON *content = field(m, sharegpt ? "value" : "content");

    if (!cJSON_IsString(role))
        return ws_fail(err, WS_E_HEADER, "a message without role");
    if (field(m, "tool_calls"))
        return ws_fail(err, WS_E_UNSUPPORTED, "a message with 'tool_calls'");
    if (!cJSON_IsString(content))
        return ws_fail(err, WS_E_UNSUPPORTED, "a message whose content is no text");
    *out = (ws_message){ role_of(role->valuestring), content->valuestring,
                         strlen(content->valuestring) };
    return WS_OK;
}

/** Append the messages of a list to r->turn[*n]. */
static ws_status turns_read(ws_record *r, const cJSON *list, size_t *n, ws_err *err)
{
    const cJSON *m;

    if (!cJSON_IsArray(list))
        return ws_fail(err, WS_E_HEADER, "messages are no list");
    cJSON_ArrayForEach(m, list)
    {
        if (*n == MOST_TURNS)
            return ws_fail(err, WS_E_UNSUPPORTED, "more than %d messages",
                           (int)MOST_TURNS);
        const ws_status st = turn_read(m, &r->turn[*n], err);
        if (st)
            return st;
        ++*n;
    }
    return WS_OK;
}

static ws_status chat_need(ws_record *r, ws_err *err)
{
    ws_data *d = r->d;

    if (d->has_chat)
        return WS_OK;
    const ws_status st = ws_chat_open(&d->chat, d->o.chat_format, d->o.model, err);
    d->has_chat = st == WS_OK;
    return st;
}

static ws_status encode(ws_record *r, const char *text, size_t len, ws_ids *ids,
                        ws_err *err)
{
    return ws_encode(r->e, text, len, false, ids, err);
}

/* ---- kinds of records ---- */

static ws_status text_add(ws_record *r, const cJSON *line, ws_err *err)
{
    const char *text = "";
    ws_status st = text_of(line, "text", &text, err);

    r->ids.n = 0;
    if (st == WS_OK)
        st = ws_record_bos(r, &r->ids, err);
    if (st == WS_OK)
        st = encode(r, text, strlen(text), &r->ids, err);
    if (st == WS_OK)
        st = eos_push(r, false, err);
    return st ? st : document_end(r, false, err);
}

/** Score what stands behind the prefix. */
static ws_status completion_end(ws_record *r, ws_err *err)
{
    const bool masked = r->d->o.loss != WS_LOSS_ALL;
    const size_t from = shared(r);
    const ws_status st = masked ? mask_reserve(r, err) : WS_OK;

    for (size_t i = from; st == WS_OK && masked && i < r->ids.n; i++)
        r->mask[i] = true;
    return st ? st : document_end(r, masked, err);
}

static ws_status completion_text(ws_record *r, const char *prompt, const char *rest,
                                 ws_err *err)
{
    r->ids.n = r->prefix.n = r->joined.n = 0;
    ws_buf_puts(&r->joined, prompt);
    ws_buf_puts(&r->joined, rest);
    if (r->joined.failed)
        return ws_fail(err, WS_E_MEMORY, "out of memory");
    ws_status st = ws_record_bos(r, &r->ids, err);
    if (st == WS_OK)
        st = ws_record_bos(r, &r->prefix, err);
    if (st == WS_OK)
        st = encode(r, prompt, strlen(prompt), &r->prefix, err);
    if (st == WS_OK)
        st = encode(r, r->joined.p ? r->joined.p : "", r->joined.n, &r->ids, err);
    if (st == WS_OK)
        st = eos_push(r, true, err);
    return st ? st : completion_end(r, err);
}

/** @p n turns, of which the first @p prompt are the prompt. */
static ws_status completion_chat(ws_record *r, size_t prompt, size_t n, ws_err *err)
{
    const ws_chat *c = &r->d->chat;
    ws_status st = chat_need(r, err);

    r->ids.n = r->prefix.n = r->text.n = r->joined.n = 0;
    if (st == WS_OK)
        st = ws_chat_render(c, r->turn, n, false, &r->joined, NULL, NULL, err);
    if (st == WS_OK)
        st = ws_chat_render(c, r->turn, prompt, true, &r->text, NULL, NULL, err);
    if (st == WS_OK)
        st = encode(r, r->joined.p, r->joined.n, &r->ids, err);
    if (st == WS_OK)
        st = encode(r, r->text.p, r->text.n, &r->prefix, err);
    return st ? st : completion_end(r, err);
}

/** Prompt and `key`, texts or lists of messages. */
static ws_status completion_add(ws_record *r, const cJSON *line, const char *key,
                                ws_err *err)
{
    const cJSON *prompt = field(line, "prompt"), *rest = field(line, key);
    const char *a = "", *b = "";
    size_t n = 0;

    if (cJSON_IsArray(prompt) && cJSON_IsArray(rest)) {
        ws_status st = turns_read(r, prompt, &n, err);
        const size_t own = n;
        if (st == WS_OK)
            st = turns_read(r, rest, &n, err);
        return st ? st : completion_chat(r, own, n, err);
    }
    ws_status st = text_of(line, "prompt", &a, err);
    if (st == WS_OK)
        st = text_of(line, key, &b, err);
    return st ? st : completion_text(r, a, b, err);
}

/** Without a prompt, chosen and rejected share their first messages. */
static ws_status pair_implicit(ws_record *r, const cJSON *line, const char *key,
                               ws_err *err)
{
    const cJSON *a = field(line, "chosen"), *b = field(line, "rejected");
    const cJSON *own = field(line, key);
    size_t n = 0, k = 0;

    if (!cJSON_IsArray(a) || !cJSON_IsArray(b))
        return ws_fail(err, WS_E_HEADER, "'chosen' and 'rejected' without 'prompt'");
    const size_t most = (size_t)cJSON_GetArraySize(a);
    while (k + 1 < most && cJSON_Compare(cJSON_GetArrayItem(a, (int)k),
                                         cJSON_GetArrayItem(b, (int)k), true))
        k++;
    const ws_status st = turns_read(r, own, &n, err);
    if (st)
        return st;
    if (n <= k)
        return ws_fail(err, WS_E_HEADER, "'%s' has no message of its own", key);
    return completion_chat(r, k, n, err);
}

static ws_status pair_add(ws_record *r, const cJSON *line, ws_err *err)
{
    const bool prompt = field(line, "prompt") != NULL;
    const uint64_t docs = r->s->n_docs, tokens = r->s->n;
    ws_status st = WS_OK;

    for (int k = 0; st == WS_OK && k < 2; k++) {
        const char *key = k ? "rejected" : "chosen";
        st = prompt ? completion_add(r, line, key, err)
                    : pair_implicit(r, line, key, err);
    }
    if (st == WS_OK && r->s->n_docs != docs + 2) { // one of them was left out
        r->s->n_docs = docs;
        r->s->n = tokens;
    }
    return st;
}

/** Mark what the assistant wrote: ids between the prefixes up to each part's ends. */
static ws_status parts_mark(ws_record *r, size_t n, ws_err *err)
{
    ws_status st = mask_reserve(r, err);

    for (size_t i = 0; st == WS_OK && i < n; i++) {
        size_t at[2] = { 0 };
        for (int k = 0; st == WS_OK && k < 2; k++) {
            const size_t end = k ? r->part[i].end : r->part[i].first;
            r->prefix.n = 0;
            st = encode(r, r->joined.p, end, &r->prefix, err);
            at[k] = shared(r);
        }
        for (size_t j = at[0]; st == WS_OK && j < at[1]; j++)
            r->mask[j] = true;
    }
    return st;
}

static ws_status turns_add(ws_record *r, size_t n, ws_err *err)
{
    const bool masked = r->d->o.loss == WS_LOSS_COMPLETION;
    size_t parts = 0;
    ws_status st = chat_need(r, err);

    r->ids.n = r->joined.n = 0;
    if (st == WS_OK)
        st = ws_chat_render(&r->d->chat, r->turn, n, false, &r->joined, r->part, &parts,
                            err);
    if (st == WS_OK)
        st = encode(r, r->joined.p, r->joined.n, &r->ids, err);
    if (st == WS_OK && masked)
        st = parts_mark(r, parts, err);
    return st ? st : document_end(r, masked, err);
}

static ws_status chat_add(ws_record *r, const cJSON *line, ws_err *err)
{
    const cJSON *list = field(line, "messages");
    const cJSON *tools = field(line, "tools");
    size_t n = 0;

    if (tools && cJSON_GetArraySize(tools) > 0)
        return ws_fail(err, WS_E_UNSUPPORTED, "a conversation with 'tools'");
    const ws_status st =
        turns_read(r, list ? list : field(line, "conversations"), &n, err);
    return st ? st : turns_add(r, n, err);
}

/** The fields of Alpaca: an instruction, perhaps with an input, and the output. */
static ws_status alpaca_add(ws_record *r, const cJSON *line, ws_err *err)
{
    const char *ask = "", *input = "", *answer = "";
    ws_status st = text_of(line, "instruction", &ask, err);

    if (st == WS_OK && field(line, "input"))
        st = text_of(line, "input", &input, err);
    if (st == WS_OK)
        st = text_of(line, "output", &answer, err);
    if (st)
        return st;
    r->text.n = 0;
    ws_buf_puts(&r->text, ask);
    if (input[0])
        ws_buf_printf(&r->text, "\n\n%s", input);
    if (r->text.failed)
        return ws_fail(err, WS_E_MEMORY, "out of memory");
    r->turn[0] = (ws_message){ "user", r->text.p ? r->text.p : "", r->text.n };
    r->turn[1] = (ws_message){ "assistant", answer, strlen(answer) };
    return turns_add(r, 2, err);
}

/** What a line is, by its fields; false when it is none. */
static bool kind_of(const cJSON *line, ws_data_kind *out)
{
    if (field(line, "messages") || field(line, "conversations") ||
        (field(line, "instruction") && field(line, "output")))
        *out = WS_DATA_CHAT;
    else if (field(line, "chosen") && field(line, "rejected"))
        *out = WS_DATA_PAIRS;
    else if (field(line, "prompt") && field(line, "completion"))
        *out = WS_DATA_COMPLETION;
    else if (field(line, "text"))
        *out = WS_DATA_TEXT;
    else
        return false;
    return true;
}

static ws_status kind_check(ws_record *r, const cJSON *line, bool first, ws_err *err)
{
    ws_data_kind kind;

    if (!cJSON_IsObject(line))
        return ws_fail(err, WS_E_HEADER, "no JSON object");
    if (field(line, "choices"))
        return ws_fail(err, WS_E_UNSUPPORTED,
                       "a question with 'choices' is for wsurg eval only");
    if (!kind_of(line, &kind))
        return ws_fail(
            err, WS_E_UNSUPPORTED,
            "none of 'text', 'prompt' and 'completion', 'messages', 'chosen' "
            "and 'rejected'");
    if (!first && kind != r->s->kind)
        return ws_fail(err, WS_E_UNSUPPORTED, "another kind of record than the first");
    r->s->kind = kind;
    return WS_OK;
}

ws_status ws_record_add(ws_record *r, const cJSON *line, bool first, ws_err *err)
{
    const ws_status st = kind_check(r, line, first, err);

    if (st)
        return st;
    switch (r->s->kind) {
    case WS_DATA_TEXT:
        return text_add(r, line, err);
    case WS_DATA_COMPLETION:
        return completion_add(r, line, "completion", err);
    case WS_DATA_PAIRS:
        return pair_add(r, line, err);
    case WS_DATA_CHAT:
        break;
    }
    return field(line, "instruction") && !field(line, "messages")
               ? alpaca_add(r, line, err)
               : chat_add(r, line, err);
}
