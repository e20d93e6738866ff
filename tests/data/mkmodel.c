/*
 * mkmodel.c - small safetensors models for tests: the same bytes for the same words
 *
 *   mkmodel OUT [OPTION]... [NAME:DTYPE:SHAPE:VALUE]...
 *
 *     --llama LAYERS,HIDDEN,VOCAB  the tensors of a Llama-shaped model
 *     --dtype D      of the --llama tensors: F64 F32 F16 BF16 (F32)
 *     --seed S       of the --llama values (0)
 *     --update S,X   add X times a second stream, of seed S: a "fine-tune"
 *     --meta K=V     an entry of __metadata__
 *     --shards N     OUT is a directory: N shards with an index
 *
 *   SHAPE is 4x8, 3, or empty for a scalar. DTYPE also I64, I32, U8, BOOL. VALUE is a
 *   number for every element, `iota` (0, 1, 2, ...), `rnd` or `rndS` (uniform in -1..1,
 *   seed S), or `nan`, `inf` (the last element, the rest 0).
 *
 * OUT ending in '/' is a Hugging Face directory: config.json, tokenizer.json and
 * tokenizer_config.json beside model.safetensors.
 */
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_TENSORS = 4096, MAX_META = 16, NAME = 160 };

struct tensor {
    char name[NAME], dtype[8], value[32];
    uint64_t shape[8];
    int rank;
    uint64_t n;
};

struct model {
    struct tensor t[MAX_TENSORS];
    size_t n;
    const char *meta[MAX_META];
    size_t n_meta;
    unsigned layers, hidden, vocab;
    const char *dtype;
    uint64_t seed, update_seed;
    double update;
    unsigned shards;
};

static _Noreturn void die(const char *what, const char *subject)
{
    fprintf(stderr, "mkmodel: %s '%s'\n", what, subject);
    exit(2);
}

/** Uniform in -1..1, a pure function of seed, tensor name and index. */
static double uniform(uint64_t seed, const char *name, uint64_t i)
{
    uint64_t x = seed * 0x9e3779b97f4a7c15u + 0x1234567;

    for (const char *c = name; *c; c++)
        x = (x ^ (unsigned char)*c) * 0x100000001b3u;
    x += (i + 1) * 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    x ^= x >> 31;
    return (double)(int64_t)(x >> 11) * 0x1p-52 - 1.0;
}

/** Sum of three uniforms: small values are common, large ones rare, as in weights. */
static double bell(uint64_t seed, const char *name, uint64_t i)
{
    return (uniform(seed, name, 3 * i) + uniform(seed, name, 3 * i + 1) +
            uniform(seed, name, 3 * i + 2)) /
           3.0;
}

static double element(const struct model *m, const struct tensor *t, uint64_t i)
{
    const char *v = t->value;

    if (strcmp(v, "llama") == 0) {
        const bool norm = strstr(t->name, "norm") != NULL;
        double x = (norm ? 1.0 : 0.0) + 0.1 * bell(m->seed, t->name, i);
        if (m->update != 0.0)
            x += m->update * bell(m->update_seed, t->name, i);
        return x;
    }
    if (strcmp(v, "iota") == 0)
        return (double)i;
    if (strncmp(v, "rnd", 3) == 0)
        return uniform(strtoull(v + 3, NULL, 10), t->name, i);
    if (strcmp(v, "nan") == 0)
        return i + 1 == t->n ? (double)NAN : 0.0;
    if (strcmp(v, "inf") == 0)
        return i + 1 == t->n ? (double)INFINITY : 0.0;
    return strtod(v, NULL);
}

/** The upper bits of a double that the format holds, to nearest, ties to even. */
static uint16_t half(double x)
{
    const uint16_t sign = signbit(x) ? 0x8000 : 0;
    int e;

    if (isnan(x))
        return 0x7e00;
    const double m = frexp(fabs(x), &e); // x = m 2^e, m in 0.5..1
    if (isinf(x) || e > 16)
        return (uint16_t)(sign | 0x7c00);
    const int low = e < -13 ? -13 : e;
    // nearbyint rounds to even; a carry out of the mantissa runs into the exponent.
    const double scaled = nearbyint(ldexp(m, e - low + 11));
    const int bits = (int)scaled + (low + 13) * 1024;
    return (uint16_t)(sign | (x == 0.0 ? 0 : bits));
}

static uint16_t bfloat(double x)
{
    const float f = (float)x;
    uint32_t u;

    memcpy(&u, &f, 4);
    if (isnan(f))
        return 0x7fc0;
    return (uint16_t)((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}

static size_t dtype_size(const char *d)
{
    static const struct {
        const char *name;
        size_t size;
    } table[] = { { "F64", 8 }, { "F32", 4 }, { "F16", 2 }, { "BF16", 2 },
                  { "I64", 8 }, { "I32", 4 }, { "U8", 1 },  { "BOOL", 1 } };

    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strcmp(table[i].name, d) == 0)
            return table[i].size;
    die("unknown dtype", d);
}

static void element_write(FILE *f, const char *dtype, double x)
{
    const float f32 = (float)x;
    const int64_t i64 = isfinite(x) ? (int64_t)x : 0;
    const int32_t i32 = (int32_t)i64;
    const uint8_t u8 = (uint8_t)i64;
    const uint16_t f16 = half(x), bf16 = bfloat(x);
    const void *p = &f32;

    if (strcmp(dtype, "F64") == 0)
        p = &x;
    else if (strcmp(dtype, "F16") == 0)
        p = &f16;
    else if (strcmp(dtype, "BF16") == 0)
        p = &bf16;
    else if (strcmp(dtype, "I64") == 0)
        p = &i64;
    else if (strcmp(dtype, "I32") == 0)
        p = &i32;
    else if (strcmp(dtype, "F32") != 0)
        p = &u8;
    fwrite(p, dtype_size(dtype), 1, f);
}

static struct tensor *add(struct model *m, const char *name, const char *dtype,
                          const char *value)
{
    struct tensor *t = &m->t[m->n++];

    if (m->n > MAX_TENSORS || strlen(name) >= NAME)
        die("too much for", name);
    snprintf(t->name, sizeof t->name, "%s", name);
    snprintf(t->dtype, sizeof t->dtype, "%s", dtype);
    snprintf(t->value, sizeof t->value, "%s", value);
    t->rank = 0;
    t->n = 1;
    return t;
}

static void dimension(struct tensor *t, uint64_t d)
{
    t->shape[t->rank++] = d;
    t->n *= d;
}

/** NAME:DTYPE:SHAPE:VALUE; the name may hold colons no more than the last three do. */
static void add_spec(struct model *m, const char *spec)
{
    char text[NAME + 64], *part[4];
    size_t n = 0;

    snprintf(text, sizeof text, "%s", spec);
    part[n++] = text;
    for (char *c = text; *c && n < 4; c++)
        if (*c == ':') {
            *c = '\0';
            part[n++] = c + 1;
        }
    if (n < 4)
        die("wanted NAME:DTYPE:SHAPE:VALUE, got", spec);
    dtype_size(part[1]);
    struct tensor *t = add(m, part[0], part[1], part[3]);
    for (char *c = part[2]; *c && t->rank < 8; c += *c == 'x')
        dimension(t, strtoull(c, &c, 10));
}

static void add_llama(struct model *m)
{
    static const char *const square[] = { "self_attn.q_proj", "self_attn.k_proj",
                                          "self_attn.v_proj", "self_attn.o_proj" };
    char name[NAME];
    struct tensor *t = add(m, "model.embed_tokens.weight", m->dtype, "llama");

    dimension(t, m->vocab);
    dimension(t, m->hidden);
    for (unsigned l = 0; l < m->layers; l++) {
        for (size_t k = 0; k < 4; k++) {
            snprintf(name, sizeof name, "model.layers.%u.%s.weight", l, square[k]);
            t = add(m, name, m->dtype, "llama");
            dimension(t, m->hidden);
            dimension(t, m->hidden);
        }
        for (size_t k = 0; k < 3; k++) {
            static const char *const mlp[] = { "gate", "up", "down" };
            snprintf(name, sizeof name, "model.layers.%u.mlp.%s_proj.weight", l,
                     mlp[k]);
            t = add(m, name, m->dtype, "llama");
            dimension(t, k < 2 ? 2 * m->hidden : m->hidden);
            dimension(t, k < 2 ? m->hidden : 2 * m->hidden);
        }
        for (size_t k = 0; k < 2; k++) {
            snprintf(name, sizeof name, "model.layers.%u.%s_layernorm.weight", l,
                     k ? "post_attention" : "input");
            dimension(add(m, name, m->dtype, "llama"), m->hidden);
        }
    }
    dimension(add(m, "model.norm.weight", m->dtype, "llama"), m->hidden);
    t = add(m, "lm_head.weight", m->dtype, "llama");
    dimension(t, m->vocab);
    dimension(t, m->hidden);
}

/** As the safetensors package orders them: wide elements first, then by name. */
static int in_order(const void *a, const void *b)
{
    const struct tensor *x = a, *y = b;
    const size_t wx = dtype_size(x->dtype), wy = dtype_size(y->dtype);

    return wx != wy ? (wx < wy ? 1 : -1) : strcmp(x->name, y->name);
}

static FILE *create(const char *dir, const char *name)
{
    char path[1024];

    snprintf(path, sizeof path, "%s%s", dir, name);
    FILE *f = fopen(path, "wb");
    if (!f)
        die(strerror(errno), path);
    return f;
}

/** One file with @p n tensors, in order. */
static void write_file(const struct model *m, struct tensor *t, size_t n, FILE *f)
{
    char *header = NULL;
    size_t len = 0;
    uint64_t at = 0;
    FILE *h = open_memstream(&header, &len);

    if (!h)
        die("no memory for", "the header");
    fputc('{', h);
    if (m->n_meta) {
        fputs("\"__metadata__\":{", h);
        for (size_t i = 0; i < m->n_meta; i++)
            fprintf(h, "%s\"%.*s\":\"%s\"", i ? "," : "", (int)strcspn(m->meta[i], "="),
                    m->meta[i], m->meta[i] + strcspn(m->meta[i], "=") + 1);
        fputs(n ? "}," : "}", h);
    }
    for (size_t i = 0; i < n; i++) {
        const uint64_t bytes = t[i].n * dtype_size(t[i].dtype);
        fprintf(h, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[", i ? "," : "", t[i].name,
                t[i].dtype);
        for (int d = 0; d < t[i].rank; d++)
            fprintf(h, "%s%llu", d ? "," : "", (unsigned long long)t[i].shape[d]);
        fprintf(h, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)at,
                (unsigned long long)(at + bytes));
        at += bytes;
    }
    fputc('}', h);
    fflush(h);
    for (size_t pad = (8 - len % 8) % 8; pad; pad--)
        fputc(' ', h);
    fclose(h);
    for (int i = 0; i < 8; i++)
        fputc((int)((uint64_t)len >> (8 * i) & 255), f);
    fwrite(header, 1, len, f);
    for (size_t i = 0; i < n; i++)
        for (uint64_t k = 0; k < t[i].n; k++)
            element_write(f, t[i].dtype, element(m, &t[i], k));
    if (fclose(f))
        die(strerror(errno), "write");
    free(header);
}

static const char tokenizer[] =
    "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":[],"
    "\"normalizer\":null,\"pre_tokenizer\":null,\"post_processor\":null,"
    "\"decoder\":null,\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1},"
    "\"merges\":[]}}\n";

static void write_companions(const struct model *m, const char *dir)
{
    static const char *const torch[][2] = { { "F32", "float32" },
                                            { "F16", "float16" },
                                            { "BF16", "bfloat16" } };
    const char *dtype = "float32";

    for (size_t i = 0; i < 3; i++)
        if (strcmp(torch[i][0], m->dtype) == 0)
            dtype = torch[i][1];
    FILE *f = create(dir, "config.json");
    fprintf(f,
            "{\n  \"architectures\": [\"LlamaForCausalLM\"],\n  \"hidden_size\": %u,\n"
            "  \"intermediate_size\": %u,\n  \"model_type\": \"llama\",\n"
            "  \"num_attention_heads\": 1,\n  \"num_hidden_layers\": %u,\n"
            "  \"num_key_value_heads\": 1,\n  \"rms_norm_eps\": 1e-05,\n"
            "  \"tie_word_embeddings\": false,\n  \"torch_dtype\": \"%s\",\n"
            "  \"vocab_size\": %u\n}\n",
            m->hidden, 2 * m->hidden, m->layers, dtype, m->vocab);
    fclose(f);
    f = create(dir, "tokenizer.json");
    fputs(tokenizer, f);
    fclose(f);
    f = create(dir, "tokenizer_config.json");
    fputs("{\"tokenizer_class\": \"PreTrainedTokenizerFast\"}\n", f);
    fclose(f);
}

/** Tensors dealt out in order, as evenly by number as it goes. */
static void write_shards(struct model *m, const char *dir)
{
    uint64_t total = 0;
    char name[64];
    FILE *index = create(dir, "model.safetensors.index.json");

    for (size_t i = 0; i < m->n; i++)
        total += m->t[i].n * dtype_size(m->t[i].dtype);
    fprintf(index, "{\"metadata\": {\"total_size\": %llu}, \"weight_map\": {",
            (unsigned long long)total);
    for (unsigned s = 0; s < m->shards; s++) {
        const size_t from = m->n * s / m->shards, to = m->n * (s + 1) / m->shards;
        snprintf(name, sizeof name, "model-%05u-of-%05u.safetensors", s + 1, m->shards);
        for (size_t i = from; i < to; i++)
            fprintf(index, "%s\"%s\": \"%s\"", i ? ", " : "", m->t[i].name, name);
        write_file(m, m->t + from, to - from, create(dir, name));
    }
    fputs("}}\n", index);
    fclose(index);
}

/** --llama LAYERS,HIDDEN,VOCAB */
static void parse_llama(struct model *m, const char *text)
{
    char *c;

    m->layers = (unsigned)strtoul(text, &c, 10);
    m->hidden = (unsigned)strtoul(c + (*c == ','), &c, 10);
    m->vocab = (unsigned)strtoul(c + (*c == ','), &c, 10);
    if (!m->layers || !m->hidden || !m->vocab)
        die("wanted LAYERS,HIDDEN,VOCAB, got", text);
}

/** One option with its value. */
static void parse_option(struct model *m, const char *name, const char *value)
{
    char *c;

    if (!value)
        die("no value for", name);
    if (strcmp(name, "--llama") == 0) {
        parse_llama(m, value);
    } else if (strcmp(name, "--dtype") == 0) {
        dtype_size(value);
        m->dtype = value;
    } else if (strcmp(name, "--seed") == 0) {
        m->seed = strtoull(value, NULL, 10);
    } else if (strcmp(name, "--update") == 0) {
        m->update_seed = strtoull(value, &c, 10);
        m->update = strtod(c + (*c == ','), NULL);
    } else if (strcmp(name, "--meta") == 0 && m->n_meta < MAX_META) {
        m->meta[m->n_meta++] = value;
    } else if (strcmp(name, "--shards") == 0) {
        m->shards = (unsigned)strtoul(value, NULL, 10);
    } else {
        die("unknown option", name);
    }
}

int main(int argc, char **argv)
{
    static struct model m = { .dtype = "F32" };

    if (argc < 2)
        die("usage: mkmodel OUT [OPTION]... [NAME:DTYPE:SHAPE:VALUE]...", "");
    const char *out = argv[1];
    for (int i = 2; i < argc; i++)
        if (strncmp(argv[i], "--", 2) == 0) {
            parse_option(&m, argv[i], i + 1 < argc ? argv[i + 1] : NULL);
            i++;
        } else {
            add_spec(&m, argv[i]);
        }
    if (m.layers)
        add_llama(&m);
    qsort(m.t, m.n, sizeof *m.t, in_order);
    const bool dir = out[0] && out[strlen(out) - 1] == '/';
    if (dir && mkdir(out, 0777) && errno != EEXIST)
        die(strerror(errno), out);
    if (dir)
        write_companions(&m, out);
    if (dir && m.shards)
        write_shards(&m, out);
    else
        write_file(&m, m.t, m.n,
                   create(dir ? out : "", dir ? "model.safetensors" : out));
    return 0;
}
