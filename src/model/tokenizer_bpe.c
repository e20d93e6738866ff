/*
 * tokenizer_bpe.c - byte-pair encoding of one piece
 *
 * A word opens as a row of symbols; then, again and again, of all neighbours that form
 * a known pair the one of lowest rank, leftmost among equals, becomes one symbol. Short
 * words look through all pairs each time, long ones keep a heap of (rank, place). Short
 * words of few ids are remembered in a cache of bounded size, four places to a hash.
 */
#include "model/tokenizer_internal.h"

enum {
    SHORT = 40,           // symbols of a word that is merged without a heap
    CACHE_FIRST = 1 << 8, // sets
    CACHE_MOST = 1 << 14,
    CACHE_WAYS = 4,
    CACHE_KEY = 32, // bytes
    CACHE_IDS = 7,
    MAX_WORD = 1 << 30,
    NO_RANK = -1,
};

/** One remembered word: a cache line. */
typedef struct ws_bpe_cell {
    uint64_t key[4];
    int32_t id[CACHE_IDS];
    uint16_t len; // of the word; 0: empty
    uint16_t n;
} cell;

static const ws_span mark = { "\xE2\x96\x81", 3 }; // U+2581

/* ---- merges ---------------------------------------------------------------------- */

static uint32_t pair_hash(uint64_t key)
{
    key *= 0x9E3779B97F4A7C15ull;
    key ^= key >> 32;
    return (uint32_t)(key * 0xD6E8FEB86659FD93ull >> 32);
}

static uint64_t pair_key(int32_t left, int32_t right)
{
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

ws_status ws_bpe_init(ws_bpe *b, size_t n, ws_err *err)
{
    size_t slots = 16;
    while (slots < n * 2)
        slots *= 2;
    b->merge = slots <= UINT32_MAX ? ws_alloc(slots * sizeof *b->merge) : NULL;
    if (b->merge == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for %zu merges", n);
    for (size_t i = 0; i < slots; i++)
        b->merge[i].key = UINT64_MAX;
    b->mask = (uint32_t)(slots - 1);
    return WS_OK;
}

static ws_merge *merge_slot(const ws_bpe *b, uint64_t key)
{
    uint32_t i = pair_hash(key) & b->mask;
    while (b->merge[i].key != key && b->merge[i].key != UINT64_MAX)
        i = (i + 1) & b->mask;
    return &b->merge[i];
}

void ws_bpe_add(ws_bpe *b, int32_t left, int32_t right, uint32_t rank, int32_t id)
{
    const uint64_t key = pair_key(left, right);
    *merge_slot(b, key) = (ws_merge){ key, rank, id };
}

void ws_bpe_free(ws_bpe *b)
{
    ws_free(b->merge);
    *b = (ws_bpe){ 0 };
}

/** Rank of a pair, NO_RANK as unsigned when it is none; *id what it becomes. */
static inline uint32_t pair_rank(const ws_bpe *b, int32_t left, int32_t right,
                                 int32_t *id)
{
    const uint64_t key = pair_key(left, right);
    const ws_merge *m = merge_slot(b, key);
    if (m->key != key)
        return (uint32_t)NO_RANK;
    *id = m->id;
    return m->rank;
}

/** Merge n <= SHORT symbols in place; returns how many are left. */
static size_t merge_short(const ws_bpe *b, int32_t *id, size_t n)
{
    uint32_t rank[SHORT];
    int32_t into[SHORT];
    for (size_t i = 0; i + 1 < n; i++)
        rank[i] = pair_rank(b, id[i], id[i + 1], &into[i]);
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (rank[i] < rank[best])
                best = i;
        if (rank[best] == (uint32_t)NO_RANK)
            break;
        id[best] = into[best];
        n--;
        memmove(id + best + 1, id + best + 2, (n - best - 1) * sizeof *id);
        if (best + 1 < n) {
            memmove(rank + best + 1, rank + best + 2, (n - best - 2) * sizeof *rank);
            memmove(into + best + 1, into + best + 2, (n - best - 2) * sizeof *into);
            rank[best] = pair_rank(b, id[best], id[best + 1], &into[best]);
        }
        if (best > 0)
            rank[best - 1] = pair_rank(b, id[best - 1], id[best], &into[best - 1]);
    }
    return n;
}

static void heap_push(uint64_t *heap, size_t *n, uint64_t v)
{
    size_t i = (*n)++;
    for (; i > 0 && heap[(i - 1) / 2] > v; i = (i - 1) / 2)
        heap[i] = heap[(i - 1) / 2];
    heap[i] = v;
}

static uint64_t heap_pop(uint64_t *heap, size_t *n)
{
    const uint64_t top = heap[0], v = heap[--*n];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < *n; i = child) {
        if (child + 1 < *n && heap[child + 1] < heap[child])
            child++;
        if (v <= heap[child])
            break;
        heap[i] = heap[child];
    }
    heap[i] = v;
    return top;
}

/** Rank the pair at @p i and its right neighbour anew, and put it on the heap. */
static void pair_renew(const ws_bpe *b, ws_bpe_work *w, int32_t i, size_t *heap_n)
{
    int32_t unused;
    w->rank[i] = (uint32_t)NO_RANK;
    if (i < 0 || w->next[i] < 0)
        return;
    w->rank[i] = pair_rank(b, w->id[i], w->id[w->next[i]], &unused);
    if (w->rank[i] != (uint32_t)NO_RANK)
        heap_push(w->heap, heap_n, (uint64_t)w->rank[i] << 32 | (uint32_t)i);
}

/** Merge w->id[0, n) by the heap; returns how many symbols are left. */
static size_t merge_long(const ws_bpe *b, ws_bpe_work *w, size_t n)
{
    size_t heap_n = 0;
    for (size_t i = 0; i < n; i++) {
        w->next[i] = i + 1 < n ? (int32_t)(i + 1) : -1;
        w->prev[i] = (int32_t)i - 1;
        pair_renew(b, w, (int32_t)i, &heap_n);
    }
    while (heap_n > 0) {
        const uint64_t top = heap_pop(w->heap, &heap_n);
        const int32_t at = (int32_t)(uint32_t)top;
        // a rank belongs to one pair: when it has changed, so has the pair
        if (w->rank[at] != (uint32_t)(top >> 32))
            continue;
        const int32_t right = w->next[at];
        pair_rank(b, w->id[at], w->id[right], &w->id[at]);
        w->rank[right] = (uint32_t)NO_RANK;
        w->id[right] = -1;
        w->next[at] = w->next[right];
        if (w->next[at] >= 0)
            w->prev[w->next[at]] = at;
        if (w->prev[at] >= 0)
            pair_renew(b, w, w->prev[at], &heap_n);
        pair_renew(b, w, at, &heap_n);
    }
    size_t left = 0;
    for (size_t i = 0; i < n; i++)
        if (w->id[i] >= 0)
            w->id[left++] = w->id[i];
    return left;
}

/* ---- what a word opens with ------------------------------------------------------ */

/** How the vocabulary spells one character: by itself, by byte tokens, or not at
 * all. */
static ws_symbol symbol_of(const ws_bpe *b, const ws_vocab *v, ws_span c)
{
    ws_symbol s = { .n = 1, .id = { ws_vocab_find(v, c) } };
    if (s.id[0] >= 0)
        return s;
    s.n = 0;
    s.fallback = b->byte_fallback;
    for (size_t i = 0; i < c.n && s.fallback; i++) {
        s.id[i] = b->fallback[(unsigned char)c.p[i]];
        s.fallback = s.id[i] >= 0;
    }
    if (s.fallback)
        s.n = (uint8_t)c.n;
    else
        s.unk = b->unk != -1;
    return s;
}

void ws_bpe_finish(ws_bpe *b, const ws_vocab *v)
{
    static const char digit[] = "0123456789ABCDEF";
    for (unsigned i = 0; i < 256; i++) {
        const char name[6] = { '<', '0', 'x', digit[i / 16], digit[i % 16], '>' };
        b->fallback[i] = ws_vocab_find(v, (ws_span){ name, 6 });
    }
    for (unsigned i = 0; i < 256; i++) {
        char text[4];
        const size_t n = ws_utf8_put(b->bytes ? ws_byte_letter(i) : i, text);
        b->byte[i] = symbol_of(b, v, (ws_span){ text, n });
    }
    b->cut_marks =
        b->cut_marks && !b->ignore_merges && !b->bytes && ws_vocab_find(v, mark) >= 0;
}

/** The symbols that @p word opens with, into @p id: at most two for each byte, and one.
 */
static ws_status open_word(const ws_bpe *b, const ws_vocab *v, ws_span word,
                           int32_t *id, size_t *n, ws_err *err)
{
    bool waiting = false; // an unk token that the next one may fuse with
    size_t k = 0, size = 1;
    for (size_t at = 0; at < word.n; at += size) {
        ws_symbol other;
        const ws_symbol *s = &b->byte[(unsigned char)word.p[at]];
        if (!b->bytes) {
            ws_utf8_get(word.p + at, word.n - at, &size);
            if (size > 1) {
                other = symbol_of(b, v, (ws_span){ word.p + at, size });
                s = &other;
            }
        }
        if (s->unk && b->unk < 0)
            return ws_fail(err, WS_E_UNSUPPORTED,
                           "a character is not in the vocabulary, nor is unk_token");
        if (waiting && (s->unk ? !b->fuse_unk : s->n > 0 && !s->fallback)) {
            id[k++] = b->unk;
            waiting = false;
        }
        waiting |= s->unk;
        for (size_t i = 0; i < s->n; i++)
            id[k++] = s->id[i];
    }
    if (waiting)
        id[k++] = b->unk;
    *n = k;
    return WS_OK;
}

/* ---- cache ----------------------------------------------------------------------- */

/** Words of 1 to 32 bytes as four numbers: with the length, no two are the same. */
static void word_key(ws_span w, uint64_t key[4])
{
    uint32_t a, z;
    key[1] = key[2] = key[3] = 0;
    if (w.n >= 8) {
        memcpy(&key[0], w.p, 8);
        memcpy(&key[1], w.p + w.n - 8, 8);
        if (w.n > 16) {
            memcpy(&key[2], w.p + 8, 8);
            memcpy(&key[3], w.p + w.n - 16, 8);
        }
    } else if (w.n >= 4) {
        memcpy(&a, w.p, 4);
        memcpy(&z, w.p + w.n - 4, 4);
        key[0] = (uint64_t)a << 32 | z;
    } else {
        const unsigned char *c = (const unsigned char *)w.p;
        key[0] =
            (uint64_t)c[0] | (uint64_t)c[w.n / 2] << 8 | (uint64_t)c[w.n - 1] << 16;
    }
}

static cell *cache_set(const ws_bpe_work *w, const uint64_t key[4], size_t len)
{
    uint64_t h = (key[0] ^ key[2] * 0xA0761D6478BD642Full) * 0x9E3779B97F4A7C15ull;
    h ^= h >> 29 ^ len;
    h = (h ^ key[1] ^ key[3] * 0xE7037ED1A0B428DBull) * 0xD6E8FEB86659FD93ull;
    return w->cache + ((h >> 40) & (w->cache_sets - 1)) * CACHE_WAYS;
}

static const cell *cache_find(const cell *set, const uint64_t key[4], size_t len)
{
    for (size_t i = 0; i < CACHE_WAYS; i++)
        if (set[i].len == len && set[i].key[0] == key[0] && set[i].key[1] == key[1] &&
            set[i].key[2] == key[2] && set[i].key[3] == key[3])
            return &set[i];
    return NULL;
}

/** The newest word comes first, the oldest goes. */
static void cache_put(cell *set, const uint64_t key[4], size_t len, const int32_t *id,
                      size_t n)
{
    if (n > CACHE_IDS)
        return;
    for (size_t i = CACHE_WAYS - 1; i > 0; i--)
        set[i] = set[i - 1];
    memcpy(set->key, key, sizeof set->key);
    for (size_t i = 0; i < n; i++)
        set->id[i] = id[i];
    set->len = (uint16_t)len;
    set->n = (uint16_t)n;
}

/** A larger, empty cache when this one has missed often; without memory it stays. */
static void cache_grow(ws_bpe_work *w)
{
    const size_t sets = w->cache_sets * 8;
    if (++w->cache_misses < w->cache_sets * 8 || w->cache_sets == CACHE_MOST)
        return;
    w->cache_misses = 0;
    cell *larger = ws_calloc(sets * CACHE_WAYS, sizeof *larger);
    if (larger == NULL)
        return;
    ws_free(w->cache);
    w->cache = larger;
    w->cache_sets = sets;
}

/* ---- one piece ------------------------------------------------------------------- */

ws_status ws_bpe_work_init(ws_bpe_work *w, const ws_bpe *b, ws_err *err)
{
    w->cache_sets = CACHE_FIRST;
    w->cache = ws_calloc((size_t)CACHE_FIRST * CACHE_WAYS, sizeof *w->cache);
    w->letters = ws_alloc(b->longest + 4);
    if (w->cache == NULL || w->letters == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory to encode");
    return WS_OK;
}

static void work_drop(ws_bpe_work *w)
{
    ws_free(w->id);
    ws_free(w->next);
    ws_free(w->prev);
    ws_free(w->rank);
    ws_free(w->heap);
    w->id = w->next = w->prev = NULL;
    w->rank = NULL;
    w->heap = NULL;
    w->id_cap = w->cap = 0;
}

void ws_bpe_work_free(ws_bpe_work *w)
{
    work_drop(w);
    ws_free(w->letters);
    ws_free(w->cache);
    *w = (ws_bpe_work){ 0 };
}

static ws_status no_memory(ws_bpe_work *w, size_t n, ws_err *err)
{
    work_drop(w);
    return ws_fail(err, WS_E_MEMORY, "no memory for a word of %zu symbols", n);
}

/** Room for the ids of n symbols; what is there is lost. */
static ws_status reserve_ids(ws_bpe_work *w, size_t n, ws_err *err)
{
    if (n <= w->id_cap)
        return WS_OK;
    ws_free(w->id);
    w->id_cap = 0;
    w->id = ws_alloc(n * sizeof *w->id);
    if (w->id == NULL)
        return no_memory(w, n, err);
    w->id_cap = n;
    return WS_OK;
}

/** Room for what merge_long() needs beside the ids. */
static ws_status reserve_links(ws_bpe_work *w, size_t n, ws_err *err)
{
    if (n <= w->cap)
        return WS_OK;
    ws_free(w->next);
    ws_free(w->prev);
    ws_free(w->rank);
    ws_free(w->heap);
    w->cap = 0;
    w->next = ws_alloc(n * sizeof *w->next);
    w->prev = ws_alloc(n * sizeof *w->prev);
    w->rank = ws_alloc(n * sizeof *w->rank);
    w->heap = ws_alloc(2 * n * sizeof *w->heap);
    if (w->next == NULL || w->prev == NULL || w->rank == NULL || w->heap == NULL)
        return no_memory(w, n, err);
    w->cap = n;
    return WS_OK;
}

ws_status ws_ids_reserve(ws_ids *ids, size_t n, ws_err *err)
{
    size_t need;
    if (ws_add_size(ids->n, n, &need) && need <= ids->cap)
        return WS_OK;
    size_t cap = ids->cap < 64 ? 64 : ids->cap + ids->cap / 2, bytes;
    if (cap < need)
        cap = need;
    int32_t *p = ws_mul_size(cap, sizeof *p, &bytes) ? ws_realloc(ids->p, bytes) : NULL;
    if (p == NULL)
        return ws_fail(err, WS_E_MEMORY, "no memory for %zu token ids", cap);
    ids->p = p;
    ids->cap = cap;
    return WS_OK;
}

static ws_status ids_add(ws_ids *out, const int32_t *id, size_t n, ws_err *err)
{
    const ws_status st = ws_ids_reserve(out, n, err);
    if (st == WS_OK && n > 0) {
        memcpy(out->p + out->n, id, n * sizeof *id);
        out->n += n;
    }
    return st;
}

/** The id of the whole word in the vocabulary, or -1. */
static int32_t whole_word(const ws_bpe *b, const ws_vocab *v, ws_bpe_work *w,
                          ws_span word)
{
    if (word.n > b->longest)
        return -1;
    if (!b->bytes)
        return ws_vocab_find(v, word);
    size_t n = 0;
    for (size_t i = 0; i < word.n && n <= b->longest; i++)
        n += ws_utf8_put(ws_byte_letter((unsigned char)word.p[i]), w->letters + n);
    return n > b->longest ? -1 : ws_vocab_find(v, (ws_span){ w->letters, n });
}

/** The ids of a word that is not in the cache. */
static ws_status word_merge(const ws_bpe *b, const ws_vocab *v, ws_bpe_work *w,
                            ws_span word, ws_ids *out, ws_err *err)
{
    if (b->ignore_merges) {
        const int32_t whole = whole_word(b, v, w, word);
        if (whole >= 0)
            return ids_add(out, &whole, 1, err);
    }
    if (word.n > MAX_WORD)
        return ws_fail(err, WS_E_USAGE, "a word of %zu bytes, at most %d are encoded",
                       word.n, MAX_WORD);
    size_t n = 0;
    ws_status st = reserve_ids(w, (b->bytes ? 2 * word.n : word.n) + 1, err);
    if (st == WS_OK)
        st = open_word(b, v, word, w->id, &n, err);
    if (st == WS_OK && n > SHORT)
        st = reserve_links(w, n, err);
    if (st != WS_OK)
        return st;
    n = n > SHORT ? merge_long(b, w, n) : merge_short(b, w->id, n);
    return ids_add(out, w->id, n, err);
}

static ws_status word_encode(const ws_bpe *b, const ws_vocab *v, ws_bpe_work *w,
                             ws_span word, ws_ids *out, ws_err *err)
{
    if (word.n > CACHE_KEY)
        return word_merge(b, v, w, word, out, err);
    uint64_t key[4];
    word_key(word, key);
    cell *set = cache_set(w, key, word.n);
    const cell *hit = cache_find(set, key, word.n);
    if (hit != NULL) {
        if (out->cap - out->n < CACHE_IDS)
            return ids_add(out, hit->id, hit->n, err);
        memcpy(out->p + out->n, hit->id, sizeof hit->id); // room is left for all
        out->n += hit->n;
        return WS_OK;
    }
    const size_t before = out->n;
    ws_status st = ws_ids_reserve(out, 1, err); // so that out->p is there
    if (st == WS_OK)
        st = word_merge(b, v, w, word, out, err);
    if (st != WS_OK)
        return st;
    cache_put(set, key, word.n, out->p + before, out->n - before);
    cache_grow(w);
    return WS_OK;
}

ws_status ws_bpe_encode(const ws_bpe *b, const ws_vocab *v, ws_bpe_work *w,
                        ws_span piece, ws_ids *out, ws_err *err)
{
    size_t from = 0;
    for (size_t at = 1; b->cut_marks && at + mark.n <= piece.n; at++) {
        const char *next = memchr(piece.p + at, mark.p[0], piece.n - at);
        if (next == NULL)
            break;
        at = (size_t)(next - piece.p);
        if (!ws_span_starts((ws_span){ next, piece.n - at }, mark) ||
            (at >= from + mark.n && memcmp(next - mark.n, mark.p, mark.n) == 0))
            continue;
        const ws_span word = { piece.p + from, at - from };
        const ws_status st = word_encode(b, v, w, word, out, err);
        if (st != WS_OK)
            return st;
        from = at;
    }
    if (from == piece.n)
        return WS_OK;
    return word_encode(b, v, w, (ws_span){ piece.p + from, piece.n - from }, out, err);
}
