/*
 * gguf_names.c - names of GGUF tensors and Hugging Face's (formats.md 5.4)
 */
#include <stdio.h>
#include <string.h>

#include "ckpt/gguf.h"

/** Names without .weight or .bias; in blocks without their numbers. */
struct pair {
    const char *gguf, *hf;
    ws_gguf_layout layout;
};

struct family {
    const char *architecture;
    const char *hf_block; /* in front of the block's number */
    const struct pair *outside, *inside;
};

static const struct pair llama_outside[] = {
    { "token_embd", "model.embed_tokens", WS_GGUF_SAME },
    { "output_norm", "model.norm", WS_GGUF_SAME },
    { "output", "lm_head", WS_GGUF_SAME },
    { NULL, NULL, WS_GGUF_SAME },
};

static const struct pair llama_inside[] = {
    { "attn_norm", "input_layernorm", WS_GGUF_SAME },
    { "attn_q", "self_attn.q_proj", WS_GGUF_HEADS_Q },
    { "attn_k", "self_attn.k_proj", WS_GGUF_HEADS_K },
    { "attn_v", "self_attn.v_proj", WS_GGUF_SAME },
    { "attn_output", "self_attn.o_proj", WS_GGUF_SAME },
    { "ffn_norm", "post_attention_layernorm", WS_GGUF_SAME },
    { "ffn_gate", "mlp.gate_proj", WS_GGUF_SAME },
    { "ffn_up", "mlp.up_proj", WS_GGUF_SAME },
    { "ffn_down", "mlp.down_proj", WS_GGUF_SAME },
    { NULL, NULL, WS_GGUF_SAME },
};

static const struct pair qwen_inside[] = {
    { "attn_norm", "input_layernorm", WS_GGUF_SAME },
    { "attn_q", "self_attn.q_proj", WS_GGUF_SAME },
    { "attn_k", "self_attn.k_proj", WS_GGUF_SAME },
    { "attn_q_norm", "self_attn.q_norm", WS_GGUF_SAME },
    { "attn_k_norm", "self_attn.k_norm", WS_GGUF_SAME },
    { "attn_v", "self_attn.v_proj", WS_GGUF_SAME },
    { "attn_output", "self_attn.o_proj", WS_GGUF_SAME },
    { "ffn_norm", "post_attention_layernorm", WS_GGUF_SAME },
    { "ffn_gate", "mlp.gate_proj", WS_GGUF_SAME },
    { "ffn_up", "mlp.up_proj", WS_GGUF_SAME },
    { "ffn_down", "mlp.down_proj", WS_GGUF_SAME },
    { NULL, NULL, WS_GGUF_SAME },
};

static const struct pair gpt2_outside[] = {
    { "token_embd", "transformer.wte", WS_GGUF_SAME },
    { "position_embd", "transformer.wpe", WS_GGUF_SAME },
    { "output_norm", "transformer.ln_f", WS_GGUF_SAME },
    { "output", "lm_head", WS_GGUF_SAME },
    { NULL, NULL, WS_GGUF_SAME },
};

static const struct pair gpt2_inside[] = {
    { "attn_norm", "ln_1", WS_GGUF_SAME },
    { "attn_qkv", "attn.c_attn", WS_GGUF_TRANSPOSED },
    { "attn_output", "attn.c_proj", WS_GGUF_TRANSPOSED },
    { "ffn_norm", "ln_2", WS_GGUF_SAME },
    { "ffn_up", "mlp.c_fc", WS_GGUF_TRANSPOSED },
    { "ffn_down", "mlp.c_proj", WS_GGUF_TRANSPOSED },
    { NULL, NULL, WS_GGUF_SAME },
};

static const struct family families[] = {
    { "llama", "model.layers.", llama_outside, llama_inside },
    { "qwen2", "model.layers.", llama_outside, qwen_inside },
    { "qwen3", "model.layers.", llama_outside, qwen_inside },
    { "gpt2", "transformer.h.", gpt2_outside, gpt2_inside },
};

static const struct family *family_of(const char *architecture)
{
    for (size_t i = 0; architecture != NULL && i < sizeof families / sizeof *families;
         i++)
        if (strcmp(architecture, families[i].architecture) == 0)
            return &families[i];
    return NULL;
}

bool ws_gguf_known(const char *architecture)
{
    return family_of(architecture) != NULL;
}

bool ws_gguf_ignored(const char *name)
{
    return strcmp(name, "rope_freqs.weight") == 0;
}

/** A name in its parts: "blk." "12" "." "attn_q" ".weight". */
struct parts {
    const char *number; /* NULL: outside the blocks */
    int n_number;
    const char *stem;
    int n_stem;
    const char *suffix;
};

static bool split(const char *name, const char *block, struct parts *p)
{
    const size_t n = strlen(block);
    const char *dot = strrchr(name, '.');
    *p = (struct parts){ .stem = name };
    if (dot == NULL || (strcmp(dot, ".weight") != 0 && strcmp(dot, ".bias") != 0))
        return false;
    p->suffix = dot;
    if (strncmp(name, block, n) == 0) {
        p->number = name + n;
        p->n_number = (int)strspn(p->number, "0123456789");
        if (p->n_number == 0 || p->n_number > 6 || p->number[p->n_number] != '.')
            return false;
        p->stem = p->number + p->n_number + 1;
    }
    p->n_stem = (int)(dot - p->stem);
    return p->n_stem > 0;
}

/** A bias has one dimension: nothing to transpose. */
static ws_gguf_layout layout_of(const struct pair *pair, const char *suffix)
{
    return pair->layout == WS_GGUF_TRANSPOSED && strcmp(suffix, ".bias") == 0
               ? WS_GGUF_SAME
               : pair->layout;
}

static bool equal(const struct parts *p, const char *stem)
{
    return strlen(stem) == (size_t)p->n_stem &&
           memcmp(stem, p->stem, (size_t)p->n_stem) == 0;
}

bool ws_gguf_to_hf(const char *architecture, const char *name, char *out,
                   ws_gguf_layout *layout)
{
    const struct family *f = family_of(architecture);
    struct parts p;
    if (f == NULL || !split(name, "blk.", &p))
        return false;
    const struct pair *pair = p.number == NULL ? f->outside : f->inside;
    for (; pair->gguf != NULL; pair++) {
        if (!equal(&p, pair->gguf))
            continue;
        snprintf(out, WS_GGUF_HF_NAME, "%s%.*s%s%s%s",
                 p.number == NULL ? "" : f->hf_block, p.n_number,
                 p.number == NULL ? "" : p.number, p.number == NULL ? "" : ".",
                 pair->hf, p.suffix);
        *layout = layout_of(pair, p.suffix);
        return true;
    }
    return false;
}

bool ws_gguf_from_hf(const char *architecture, const char *name, char *out,
                     ws_gguf_layout *layout)
{
    const struct family *f = family_of(architecture);
    struct parts p;
    char whole[WS_GGUF_HF_NAME];
    if (f == NULL || strlen(name) > sizeof whole / 2)
        return false;
    // GPT-2's published file leaves the prefix out
    const bool bare = strcmp(architecture, "gpt2") == 0 &&
                      strncmp(name, "transformer.", 12) != 0 &&
                      strncmp(name, "lm_head.", 8) != 0;
    snprintf(whole, sizeof whole, "%s%s", bare ? "transformer." : "", name);
    if (!split(whole, f->hf_block, &p))
        return false;
    const struct pair *pair = p.number == NULL ? f->outside : f->inside;
    for (; pair->gguf != NULL; pair++) {
        if (!equal(&p, pair->hf))
            continue;
        const int n = snprintf(out, WS_GGUF_NAME + 1, "%s%.*s%s%s%s",
                               p.number == NULL ? "" : "blk.", p.n_number,
                               p.number == NULL ? "" : p.number,
                               p.number == NULL ? "" : ".", pair->gguf, p.suffix);
        *layout = layout_of(pair, p.suffix);
        return n <= WS_GGUF_NAME;
    }
    return false;
}
