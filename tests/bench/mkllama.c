/*
 * mkllama.c - checkpoints in the shape of a Llama, made up fast and always the same
 *
 *   mkllama OUT [--shape 1b|70b|7b|small] [--layers N] [--seed N] [--tune N]
 *               [--shard-size BYTES] [--fill FIRST-LAST]
 *
 * OUT ending in .safetensors is one file; any other OUT is a directory with shards, an
 * index and a config.json. Weights are BF16, normal with deviation 0.02 (norms: around
 * 1). --tune N makes the N-th fine-tune of the model that the same command line without
 * it makes: plus normal noise of 0.0005, rounded to BF16. --fill writes data only into
 * these shards (counted from 1; 0-0: none) and leaves holes in the rest.
 *
 * A weight depends on (seed, tensor, index) alone: 16 random bits pick one of 65536
 * quantiles of the normal distribution.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CHUNK = 1 << 20, MAX_TENSORS = 2048, MAX_SHARDS = 1000, QUANTILES = 65536 };

#define DEVIATION      0.02
#define TUNE_DEVIATION 0.0005
#define PATH_BYTES     4096
#define HEADER_CAP     (4u << 20)

struct shape {
    const char *name;
    uint64_t layers, hidden, inner, heads, kv_heads, vocab;
};

static const struct shape shapes[] = {
    { "1b", 22, 2048, 5632, 32, 4, 32000 },
    { "7b", 32, 4096, 11008, 32, 32, 32000 },
    { "70b", 80, 8192, 28672, 64, 8, 32000 },
    { "small", 4, 512, 1408, 8, 2, 4096 },
};

struct tensor {
    char name[96];
    uint64_t shape[2], n;
    int rank, shard;
    uint64_t offset; /* in the data of its shard */
};

struct shard {
    char path[PATH_BYTES];
    int fd;
    bool filled;
    uint64_t header, bytes;
};

static struct {
    struct shape shape;
    const char *out;
    uint64_t seed, tune, shard_size;
    int fill_first, fill_last;
    struct tensor tensors[MAX_TENSORS];
    size_t n_tensors;
    struct shard shards[MAX_SHARDS];
    int n_shards;
    uint16_t weight[QUANTILES];
    float noise[QUANTILES];
    atomic_size_t next; /* chunk to be made */
    atomic_bool failed;
} g;

__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    fputs("mkllama: ", stderr);
    vfprintf(stderr, fmt, args);
    fputc('\n', stderr);
    va_end(args);
    exit(1);
}

/* ---- numbers ---- */

/** The quantile function of the normal distribution (Wichura's rational form is not
 * needed: bisection on erfc, 65536 times, takes a moment). */
static double quantile(double p)
{
    double lo = -6.0, hi = 6.0;
    for (int i = 0; i < 48; i++) {
        const double mid = 0.5 * (lo + hi);
        if (0.5 * erfc(-mid / sqrt(2.0)) < p)
            lo = mid;
        else
            hi = mid;
    }
    return 0.5 * (lo + hi);
}

static uint16_t to_bf16(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

static float from_bf16(uint16_t h)
{
    const uint32_t u = (uint32_t)h << 16;
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

static void tables_make(void)
{
    for (int i = 0; i < QUANTILES / 2; i++) {
        const double q = quantile((i + 0.5) / QUANTILES);
        g.weight[i] = to_bf16((float)(DEVIATION * q));
        g.weight[QUANTILES - 1 - i] = to_bf16((float)(-DEVIATION * q));
        g.noise[i] = (float)(TUNE_DEVIATION * q);
        g.noise[QUANTILES - 1 - i] = -g.noise[i];
    }
}

/** SplitMix64 of a counter: four 16-bit picks. */
static uint64_t mix(uint64_t x)
{
    x *= 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static void chunk_fill(uint16_t *out, const struct tensor *t, size_t index,
                       uint64_t first, uint64_t n)
{
    const uint64_t base = mix(g.seed * 65536 + index + 1);
    const uint64_t noise = mix((g.tune << 40) + g.seed * 65536 + index + 1);
    for (uint64_t i = 0; i < n; i += 4) {
        const uint64_t w = mix(base + first + i), z = mix(noise + first + i);
        for (unsigned k = 0; k < 4; k++) {
            uint16_t v = g.weight[w >> 16 * k & 0xffff];
            if (t->rank == 1)
                v = to_bf16(1.0f + from_bf16(v));
            if (g.tune)
                v = to_bf16(from_bf16(v) + g.noise[z >> 16 * k & 0xffff]);
            out[i + k] = v;
        }
    }
}

static void *worker(void *unused)
{
    uint16_t *buf = malloc(CHUNK * sizeof *buf);
    (void)unused;
    while (buf != NULL && !g.failed) {
        size_t index = 0, chunk = atomic_fetch_add(&g.next, 1);
        for (; index < g.n_tensors; index++) {
            const size_t here = (size_t)((g.tensors[index].n + CHUNK - 1) / CHUNK);
            if (chunk < here)
                break;
            chunk -= here;
        }
        if (index == g.n_tensors)
            break;
        const struct tensor *t = &g.tensors[index];
        const struct shard *s = &g.shards[t->shard];
        if (!s->filled)
            continue;
        const uint64_t first = (uint64_t)chunk * CHUNK;
        const uint64_t n = t->n - first < CHUNK ? t->n - first : CHUNK;
        chunk_fill(buf, t, index, first, n);
        const off_t at = (off_t)(s->header + t->offset + first * 2);
        if (pwrite(s->fd, buf, n * 2, at) != (ssize_t)(n * 2))
            g.failed = true;
    }
    if (buf == NULL)
        g.failed = true;
    free(buf);
    return NULL;
}

/* ---- tensors and files ---- */

__attribute__((format(printf, 3, 4))) static void add(uint64_t rows, uint64_t cols,
                                                      const char *fmt, ...)
{
    if (g.n_tensors == MAX_TENSORS)
        die("more than %d tensors", MAX_TENSORS);
    struct tensor *t = &g.tensors[g.n_tensors++];
    va_list args;
    va_start(args, fmt);
    vsnprintf(t->name, sizeof t->name, fmt, args);
    va_end(args);
    t->rank = cols ? 2 : 1;
    t->shape[0] = rows;
    t->shape[1] = cols;
    t->n = rows * (cols ? cols : 1);
}

/** In the order of the model, which decides the shards; n is a multiple of 4 in all. */
static void tensors_list(void)
{
    const struct shape *s = &g.shape;
    const uint64_t h = s->hidden, kv = h / s->heads * s->kv_heads;

    add(s->vocab, h, "model.embed_tokens.weight");
    for (unsigned i = 0; i < s->layers; i++) {
        add(h, h, "model.layers.%u.self_attn.q_proj.weight", i);
        add(kv, h, "model.layers.%u.self_attn.k_proj.weight", i);
        add(kv, h, "model.layers.%u.self_attn.v_proj.weight", i);
        add(h, h, "model.layers.%u.self_attn.o_proj.weight", i);
        add(s->inner, h, "model.layers.%u.mlp.gate_proj.weight", i);
        add(s->inner, h, "model.layers.%u.mlp.up_proj.weight", i);
        add(h, s->inner, "model.layers.%u.mlp.down_proj.weight", i);
        add(h, 0, "model.layers.%u.input_layernorm.weight", i);
        add(h, 0, "model.layers.%u.post_attention_layernorm.weight", i);
    }
    add(h, 0, "model.norm.weight");
    add(s->vocab, h, "lm_head.weight");
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct tensor *)a)->name, ((const struct tensor *)b)->name);
}

static int by_place(const void *a, const void *b)
{
    const struct tensor *x = a, *y = b;
    return x->shard != y->shard ? (x->shard > y->shard) - (x->shard < y->shard)
                                : by_name(a, b);
}

/** Give each tensor its shard, then its offset: inside a shard sorted by name. */
static void shards_cut(bool is_dir)
{
    uint64_t bytes = 0;
    int shard = 0;
    for (size_t i = 0; i < g.n_tensors; i++) {
        struct tensor *t = &g.tensors[i];
        if (is_dir && bytes > 0 && bytes + t->n * 2 > g.shard_size) {
            shard++;
            bytes = 0;
        }
        t->shard = shard;
        bytes += t->n * 2;
    }
    g.n_shards = shard + 1;
    if (g.n_shards > MAX_SHARDS)
        die("more than %d shards", MAX_SHARDS);
    qsort(g.tensors, g.n_tensors, sizeof g.tensors[0], by_place);
    for (size_t i = 0; i < g.n_tensors; i++) {
        struct tensor *t = &g.tensors[i];
        t->offset = g.shards[t->shard].bytes;
        g.shards[t->shard].bytes += t->n * 2;
    }
}

static void shard_open(int index, bool is_dir)
{
    struct shard *s = &g.shards[index];
    static char json[HEADER_CAP];
    size_t n = 8;
    n += (size_t)snprintf(json + n, HEADER_CAP - n,
                          "{\"__metadata__\":{\"format\":\"pt\"}");
    for (size_t i = 0; i < g.n_tensors; i++) {
        const struct tensor *t = &g.tensors[i];
        char cols[32] = "";
        if (t->shard != index)
            continue;
        if (t->rank == 2)
            snprintf(cols, sizeof cols, ",%" PRIu64, t->shape[1]);
        n += (size_t)snprintf(json + n, HEADER_CAP - n,
                              ",\"%s\":{\"dtype\":\"BF16\",\"shape\":[%" PRIu64
                              "%s],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}",
                              t->name, t->shape[0], cols, t->offset,
                              t->offset + t->n * 2);
    }
    json[n++] = '}';
    while (n % 8)
        json[n++] = ' ';
    for (int i = 0; i < 8; i++)
        json[i] = (char)((n - 8) >> 8 * i & 0xff);
    s->header = n;
    if (is_dir)
        snprintf(s->path, sizeof s->path, "%s/model-%05d-of-%05d.safetensors", g.out,
                 index + 1, g.n_shards);
    else
        snprintf(s->path, sizeof s->path, "%s", g.out);
    s->filled = index + 1 >= g.fill_first && index + 1 <= g.fill_last;
    s->fd = open(s->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (s->fd < 0 || write(s->fd, json, n) != (ssize_t)n ||
        ftruncate(s->fd, (off_t)(n + s->bytes)) != 0)
        die("%s: %s", s->path, strerror(errno));
}

static FILE *companion(const char *name)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/%s", g.out, name);
    FILE *f = fopen(path, "w");
    if (f == NULL)
        die("%s: %s", path, strerror(errno));
    return f;
}

static void companions_write(void)
{
    const struct shape *s = &g.shape;
    FILE *f = companion("config.json");
    fprintf(f,
            "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\", "
            "\"hidden_size\": %" PRIu64 ", \"intermediate_size\": %" PRIu64
            ", \"num_hidden_layers\": %" PRIu64 ", \"num_attention_heads\": %" PRIu64
            ", \"num_key_value_heads\": %" PRIu64 ", \"vocab_size\": %" PRIu64
            ", \"tie_word_embeddings\": false, \"torch_dtype\": \"bfloat16\"}\n",
            s->hidden, s->inner, s->layers, s->heads, s->kv_heads, s->vocab);
    fclose(f);

    uint64_t total = 0;
    for (int i = 0; i < g.n_shards; i++)
        total += g.shards[i].bytes;
    f = companion("model.safetensors.index.json");
    fprintf(f, "{\"metadata\": {\"total_size\": %" PRIu64 "}, \"weight_map\": {",
            total);
    for (size_t i = 0; i < g.n_tensors; i++)
        fprintf(f, "%s\n\"%s\": \"%s\"", i ? "," : "", g.tensors[i].name,
                strrchr(g.shards[g.tensors[i].shard].path, '/') + 1);
    fprintf(f, "}}\n");
    fclose(f);
}

static void data_write(void)
{
    pthread_t threads[64];
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    n = n < 1 ? 1 : n > 64 ? 64 : n;
    for (long i = 0; i < n; i++)
        if (pthread_create(&threads[i], NULL, worker, NULL) != 0)
            die("cannot start a thread");
    for (long i = 0; i < n; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < g.n_shards; i++)
        if (close(g.shards[i].fd) != 0)
            g.failed = true;
    if (g.failed)
        die("%s: could not write all data", g.out);
}

static uint64_t number(const char *s)
{
    char *end;
    const uint64_t v = strtoull(s, &end, 10);
    if (end == s || *end != '\0')
        die("'%s' is not a number", s);
    return v;
}

static void option(const char *name, const char *value)
{
    if (strcmp(name, "--shape") == 0) {
        for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
            if (strcmp(value, shapes[i].name) == 0) {
                g.shape = shapes[i];
                return;
            }
        die("unknown shape '%s'", value);
    } else if (strcmp(name, "--layers") == 0)
        g.shape.layers = number(value);
    else if (strcmp(name, "--seed") == 0)
        g.seed = number(value);
    else if (strcmp(name, "--tune") == 0)
        g.tune = number(value);
    else if (strcmp(name, "--shard-size") == 0)
        g.shard_size = number(value);
    else if (strcmp(name, "--fill") == 0) {
        if (sscanf(value, "%d-%d", &g.fill_first, &g.fill_last) != 2)
            die("--fill takes FIRST-LAST, not '%s'", value);
    } else
        die("unknown option '%s'", name);
}

int main(int argc, char **argv)
{
    if (argc < 2 || argc % 2 != 0)
        die("OUT and pairs of option and value are wanted; see the top of mkllama.c");
    g.out = argv[1];
    g.shape = shapes[0];
    g.shard_size = 5000000000u;
    g.fill_first = 1;
    g.fill_last = MAX_SHARDS;
    for (int i = 2; i + 1 < argc; i += 2)
        option(argv[i], argv[i + 1]);

    const char *ending = strrchr(g.out, '.');
    const bool is_dir = ending == NULL || strcmp(ending, ".safetensors") != 0;
    if (is_dir && mkdir(g.out, 0777) != 0 && errno != EEXIST)
        die("%s: %s", g.out, strerror(errno));
    tensors_list();
    shards_cut(is_dir);
    for (int i = 0; i < g.n_shards; i++)
        shard_open(i, is_dir);
    if (is_dir)
        companions_write();
    tables_make();
    data_write();
    return 0;
}
