/*
 * chat.c - conversations rendered as the templates of the common families do
 *
 * A format is a table row: what opens and closes a turn of each role. In its texts \1
 * stands for the bos token, \2 for eos.
 *
 * Sources: the chat templates of Llama-2-chat, Meta-Llama-3 and 3.1 Instruct, Mistral
 * 7B Instruct v0.2 as first published ("mistral"), later ("-v1") and v0.3 ("-v3"),
 * Mistral Nemo ("-v3-tekken"), Large 2411 ("-v7"), Small 2501 ("-v7-tekken", all named
 * after the versions of its tokenizers), zephyr-7b-beta, Phi-3 and 3.5, gemma 2 and 3,
 * Qwen2, 2.5 and 3; FastChat (Vicuna 1.1) and Stanford Alpaca for those without one.
 */
#include "train/chat_internal.h"

#include <string.h>

#define ALPACA_SYSTEM                                                                  \
    "Below is an instruction that describes a task. Write a response that "            \
    "appropriately completes the request."
#define VICUNA_SYSTEM                                                                  \
    "A chat between a curious user and an artificial intelligence assistant. The "     \
    "assistant gives helpful, detailed, and polite answers to the user's questions."
#define LLAMA3(role) "<|start_header_id|>" role "<|end_header_id|>\n\n"
#define CHATML(role) "<|im_start|>" role "\n"

enum {
    TRIM = 1,         // contents lose white space at both ends
    ALTERNATE = 2,    // user and assistant take turns
    NO_SYSTEM = 4,    // there is no such role
    IN_USER = 8,      // the system's words open the user's first turn
    EOS_LAST = 16,    // eos closes a text that is no prompt
    DATED = 32,       // the system's turn is always there and opens with the dates
    THINKING = 64,    // the last answer has a part for thoughts
    FIRST_ONLY = 128, // the system speaks only first
    IN_LAST = 256,    // the system's words open the user's last turn
    TRIM_ANSWER = 512 // the assistant's contents lose white space at both ends
};

enum { SYSTEM, USER, ASSISTANT, ROLES };

struct ws_chat_format {
    const char *name;
    const char *head;
    const char *open[ROLES], *close[ROLES];
    const char *prompt;
    const char *system; // by default
    unsigned flags;
};

static const struct ws_chat_format formats[] = {
    { "alpaca",
      "\1",
      { "", "### Instruction:\n", "### Response:\n" },
      { "\n\n", "\n\n", "\2\n\n" },
      "### Response:\n",
      ALPACA_SYSTEM,
      FIRST_ONLY },
    { "chatml",
      "",
      { CHATML("system"), CHATML("user"), CHATML("assistant") },
      { "<|im_end|>\n", "<|im_end|>\n", "<|im_end|>\n" },
      CHATML("assistant"),
      "",
      0 },
    { "gemma",
      "\1",
      { "", "<start_of_turn>user\n", "<start_of_turn>model\n" },
      { "", "<end_of_turn>\n", "<end_of_turn>\n" },
      "<start_of_turn>model\n",
      "",
      TRIM | ALTERNATE | NO_SYSTEM },
    { "gemma3",
      "\1",
      { "", "<start_of_turn>user\n", "<start_of_turn>model\n" },
      { "\n\n", "<end_of_turn>\n", "<end_of_turn>\n" },
      "<start_of_turn>model\n",
      "",
      TRIM | ALTERNATE | IN_USER },
    { "llama2",
      "",
      { "<<SYS>>\n", "\1[INST] ", " " },
      { "\n<</SYS>>\n\n", " [/INST]", " \2" },
      "",
      "",
      TRIM | ALTERNATE | IN_USER },
    { "llama3",
      "\1",
      { LLAMA3("system"), LLAMA3("user"), LLAMA3("assistant") },
      { "<|eot_id|>", "<|eot_id|>", "<|eot_id|>" },
      LLAMA3("assistant"),
      "",
      TRIM },
    { "llama3.1",
      "\1",
      { LLAMA3("system"), LLAMA3("user"), LLAMA3("assistant") },
      { "<|eot_id|>", "<|eot_id|>", "<|eot_id|>" },
      LLAMA3("assistant"),
      "",
      TRIM | DATED },
    { "mistral",
      "\1",
      { "", "[INST] ", "" },
      { "", " [/INST]", "\2" },
      "",
      "",
      ALTERNATE | NO_SYSTEM },
    { "mistral-v1",
      "\1",
      { "", " [INST] ", " " },
      { "\n\n", " [/INST]", "\2" },
      "",
      "",
      ALTERNATE | IN_USER },
    { "mistral-v3",
      "\1",
      { "", "[INST] ", " " },
      { "\n\n", "[/INST]", "\2" },
      "",
      "",
      ALTERNATE | IN_LAST | TRIM_ANSWER },
    { "mistral-v3-tekken",
      "\1",
      { "", "[INST]", "" },
      { "\n\n", "[/INST]", "\2" },
      "",
      "",
      ALTERNATE | IN_LAST },
    { "mistral-v7",
      "\1",
      { "[SYSTEM_PROMPT] ", "[INST] ", " " },
      { "[/SYSTEM_PROMPT]", "[/INST]", "\2" },
      "",
      "",
      0 },
    { "mistral-v7-tekken",
      "\1",
      { "[SYSTEM_PROMPT]", "[INST]", "" },
      { "[/SYSTEM_PROMPT]", "[/INST]", "\2" },
      "",
      "",
      0 },
    { "phi3",
      "",
      { "<|system|>\n", "<|user|>\n", "<|assistant|>\n" },
      { "<|end|>\n", "<|end|>\n", "<|end|>\n" },
      "<|assistant|>\n",
      "",
      EOS_LAST },
    { "qwen2",
      "",
      { CHATML("system"), CHATML("user"), CHATML("assistant") },
      { "<|im_end|>\n", "<|im_end|>\n", "<|im_end|>\n" },
      CHATML("assistant"),
      "You are a helpful assistant.",
      0 },
    { "qwen2.5",
      "",
      { CHATML("system"), CHATML("user"), CHATML("assistant") },
      { "<|im_end|>\n", "<|im_end|>\n", "<|im_end|>\n" },
      CHATML("assistant"),
      "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
      0 },
    { "qwen3",
      "",
      { CHATML("system"), CHATML("user"), CHATML("assistant") },
      { "<|im_end|>\n", "<|im_end|>\n", "<|im_end|>\n" },
      CHATML("assistant"),
      "",
      THINKING },
    { "vicuna",
      "\1",
      { "", "USER: ", "ASSISTANT: " },
      { " ", " ", "\2" },
      "ASSISTANT:",
      VICUNA_SYSTEM,
      FIRST_ONLY },
    { "zephyr",
      "",
      { "<|system|>\n", "<|user|>\n", "<|assistant|>\n" },
      { "\2\n", "\2\n", "\2\n" },
      "<|assistant|>\n",
      "",
      0 },
};

enum { N_FORMATS = sizeof formats / sizeof *formats };

const char *ws_chat_name(size_t i)
{
    return i < N_FORMATS ? formats[i].name : NULL;
}

const char *ws_chat_name_of(const ws_chat *c)
{
    return c->format->name;
}

bool ws_chat_set(ws_chat *c, const char *name)
{
    for (size_t i = 0; i < N_FORMATS; i++)
        if (ws_name_equal(formats[i].name, name)) {
            c->format = &formats[i];
            ws_chat_system(c, formats[i].system, strlen(formats[i].system));
            return true;
        }
    return false;
}

bool ws_chat_system(ws_chat *c, const char *text, size_t len)
{
    if (len >= sizeof c->system)
        return false;
    memcpy(c->system, text, len);
    c->system[len] = '\0';
    return true;
}

/* ---- rendering ---- */

struct render {
    const ws_chat *c;
    const struct ws_chat_format *f;
    const ws_message *turn;
    size_t n, first; // turns; the first that is not the system's opening one
    ws_buf *out;
};

/** A text of the table. */
static void put(const struct render *r, const char *s)
{
    for (; *s; s++)
        if (*s == '\1')
            ws_buf_puts(r->out, r->c->bos);
        else if (*s == '\2')
            ws_buf_puts(r->out, r->c->eos);
        else
            ws_buf_putc(r->out, *s);
}

static bool space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r') || (c >= '\x1c' && c <= '\x1f');
}

static void trim(const char **s, size_t *n)
{
    while (*n > 0 && space((*s)[0])) {
        ++*s;
        --*n;
    }
    while (*n > 0 && space((*s)[*n - 1]))
        --*n;
}

static void content(const struct render *r, const ws_message *m)
{
    const char *s = m->content;
    size_t n = m->len;

    if ((r->f->flags & TRIM) ||
        ((r->f->flags & TRIM_ANSWER) && strcmp(m->role, "assistant") == 0))
        trim(&s, &n);
    ws_buf_add(r->out, s, n);
}

static int role_index(const ws_message *m)
{
    return strcmp(m->role, "user") == 0        ? USER
           : strcmp(m->role, "assistant") == 0 ? ASSISTANT
           : strcmp(m->role, "system") == 0    ? SYSTEM
                                               : -1;
}

static ws_status roles_check(const struct render *r, ws_err *err)
{
    const unsigned flags = r->f->flags;

    for (size_t i = 0; i < r->n; i++) {
        const int role = role_index(&r->turn[i]);
        char shown[64];
        ws_show(r->turn[i].role, shown, sizeof shown);
        if (role < 0 || (role == SYSTEM && (flags & NO_SYSTEM)))
            return ws_fail(err, WS_E_UNSUPPORTED,
                           "turn %zu is of role '%s', which chat format '%s' does not "
                           "have",
                           i + 1, shown, r->f->name);
        if (i < r->first)
            continue;
        const int want = (i - r->first) % 2 == 0 ? USER : ASSISTANT;
        if ((flags & ALTERNATE) && role != want)
            return ws_fail(err, WS_E_UNSUPPORTED,
                           "turn %zu is of role '%s', chat format '%s' wants '%s'",
                           i + 1, shown, r->f->name,
                           want == USER ? "user" : "assistant");
        if (role == SYSTEM && (flags & FIRST_ONLY))
            return ws_fail(err, WS_E_UNSUPPORTED,
                           "turn %zu is the system's, which in chat format '%s' speaks "
                           "only first",
                           i + 1, r->f->name);
    }
    return WS_OK;
}

/** What stands before the first turn of a user or an assistant. */
static void opening(const struct render *r)
{
    const ws_message given = { "system", r->c->system, strlen(r->c->system) };
    const ws_message *m = r->first ? &r->turn[0] : given.len ? &given : NULL;

    put(r, r->f->head);
    if (r->f->flags & (IN_USER | IN_LAST) || (!m && !(r->f->flags & DATED)))
        return;
    put(r, r->f->open[SYSTEM]);
    if (r->f->flags & DATED)
        ws_buf_puts(r->out, "Cutting Knowledge Date: December 2023\n"
                            "Today Date: 26 Jul 2024\n\n");
    if (m)
        content(r, m);
    put(r, r->f->close[SYSTEM]);
}

/** Whether the user's turn @p i carries the system's words. */
static bool carries(const struct render *r, size_t i)
{
    size_t last = r->n - 1;

    if (!r->first || !(r->f->flags & (IN_USER | IN_LAST)))
        return false;
    while (last > i && role_index(&r->turn[last]) != USER)
        last--;
    return i == ((r->f->flags & IN_LAST) ? last : 1);
}

/** The user's turn @p i, which may carry the system's words. */
static void user(const struct render *r, size_t i)
{
    const ws_message *m = &r->turn[i];
    const char *s = m->content;
    size_t n = m->len;

    put(r, r->f->open[USER]);
    if (carries(r, i)) {
        put(r, r->f->open[SYSTEM]);
        ws_buf_add(r->out, r->turn[0].content, r->turn[0].len);
        put(r, r->f->close[SYSTEM]);
        // Llama 2 trims both together, Gemma the user's words alone
        while (r->f->open[SYSTEM][0] && n > 0 && space(s[n - 1]))
            n--;
        if (r->f->open[SYSTEM][0]) {
            ws_buf_add(r->out, s, n);
            put(r, r->f->close[USER]);
            return;
        }
    }
    content(r, m);
    put(r, r->f->close[USER]);
}

static const char *find(const char *s, size_t n, const char *what)
{
    const size_t k = strlen(what);

    for (size_t i = 0; i + k <= n; i++)
        if (memcmp(s + i, what, k) == 0)
            return s + i;
    return NULL;
}

/** Take newlines off the ends: bit 1 in front, bit 2 behind. */
static void strip_lines(const char **s, size_t *n, int ends)
{
    while ((ends & 1) && *n > 0 && (*s)[0] == '\n') {
        ++*s;
        --*n;
    }
    while ((ends & 2) && *n > 0 && (*s)[*n - 1] == '\n')
        --*n;
}

/** An answer of Qwen 3: thoughts stay only behind the user's last question. */
static void thinking(const struct render *r, size_t i)
{
    const ws_message *m = &r->turn[i];
    const char *thought = "", *said = m->content, *close;
    size_t n_thought = 0, n = m->len, last = r->n - 1;

    for (size_t k = 0; k < r->n; k++)
        if (role_index(&r->turn[k]) == USER)
            last = k;
    close = find(said, n, "</think>");
    if (close) {
        const char *open;
        thought = said;
        n_thought = (size_t)(close - said);
        strip_lines(&thought, &n_thought, 2);
        while ((open = find(thought, n_thought, "<think>"))) {
            n_thought -= (size_t)(open + 7 - thought);
            thought = open + 7;
        }
        strip_lines(&thought, &n_thought, 1);
        while ((close = find(said, n, "</think>"))) {
            n -= (size_t)(close + 8 - said);
            said = close + 8;
        }
        strip_lines(&said, &n, 1);
    }
    if (i > last && (i + 1 == r->n || n_thought > 0)) {
        strip_lines(&thought, &n_thought, 3);
        strip_lines(&said, &n, 1);
        ws_buf_puts(r->out, "<think>\n");
        ws_buf_add(r->out, thought, n_thought);
        ws_buf_puts(r->out, "\n</think>\n\n");
    }
    ws_buf_add(r->out, said, n);
}

static void assistant(const struct render *r, size_t i, ws_chat_part *part)
{
    put(r, r->f->open[ASSISTANT]);
    part->first = r->out->n;
    if (r->f->flags & THINKING)
        thinking(r, i);
    else
        content(r, &r->turn[i]);
    put(r, r->f->close[ASSISTANT]);
    part->end = r->out->n;
    // the line break behind the end marker is nobody's word
    const char *close = r->f->close[ASSISTANT];
    for (size_t k = strlen(close); k > 0 && close[k - 1] == '\n'; k--)
        part->end--;
}

ws_status ws_chat_render(const ws_chat *c, const ws_message *turns, size_t n,
                         bool prompt, ws_buf *out, ws_chat_part *parts, size_t *n_parts,
                         ws_err *err)
{
    struct render r = { .c = c, .f = c->format, .turn = turns, .n = n, .out = out };
    size_t k = 0;

    r.first = n > 0 && role_index(&turns[0]) == SYSTEM;
    const ws_status st = roles_check(&r, err);
    if (st)
        return st;
    opening(&r);
    for (size_t i = r.first; i < n; i++) {
        const int role = role_index(&turns[i]);
        ws_chat_part part;
        if (role == USER) {
            user(&r, i);
        } else if (role == ASSISTANT) {
            assistant(&r, i, &part);
            if (parts)
                parts[k++] = part;
        } else {
            put(&r, r.f->open[SYSTEM]);
            content(&r, &turns[i]);
            put(&r, r.f->close[SYSTEM]);
        }
    }
    if (prompt)
        put(&r, r.f->prompt);
    else if (r.f->flags & EOS_LAST)
        put(&r, "\2");
    if (out->failed)
        return ws_fail(err, WS_E_MEMORY, "no memory for a conversation");
    if (n_parts)
        *n_parts = k;
    return WS_OK;
}

void ws_chat_end(const ws_chat *c, char *out, size_t size)
{
    const char *s = c->format->close[ASSISTANT];
    size_t n = 0;

    for (; *s && n + 1 < size; s++)
        if (*s == '\2') {
            for (const char *e = c->eos; *e && n + 1 < size; e++)
                out[n++] = *e;
        } else if (!space(*s)) {
            out[n++] = *s;
        }
    out[n] = '\0';
}
