/*
 * pickle.c - the restricted pickle machine
 *
 * A stack of node numbers, a stack of marks, a memo filled in order. Each operation has
 * a function of its own; the table at the end says which bytes are known.
 */
#include "ckpt/pickle.h"

#include <string.h>

#include "ckpt/pickle_nodes.h"
#include "wsurg/text.h"

enum {
    MAX_BYTES = 256 << 20,
    MAX_STEPS = 10000000,
    MANY_NODES = 1 << 20,
    MAX_STACK = 65536,
    MAX_MARKS = 100,
    MAX_STRING = 1 << 20
};

typedef struct machine {
    ws_pickle *out;
    const unsigned char *p;
    size_t n, at; /* at: next byte */
    size_t op_at; /* of the operation under way */
    pickle_node *nodes;
    size_t n_nodes, cap_nodes;
    pickle_cell *cells; /* 0 is unused */
    size_t n_cells, cap_cells;
    uint32_t *stack;
    size_t n_stack, cap_stack;
    size_t marks[MAX_MARKS];
    size_t n_marks;
    uint32_t *memo;
    size_t n_memo, cap_memo;
    bool done;
    ws_err *err;
} machine;

static ws_status fail(machine *m, ws_status code, const char *what)
{
    ws_fail(m->err, code, "pickle: %s", what);
    return ws_err_at(m->err, NULL, NULL, (int64_t)m->op_at), code;
}

static ws_status bad(machine *m, const char *what)
{
    return fail(m, WS_E_HEADER, what);
}

static ws_status no_memory(machine *m)
{
    return ws_fail(m->err, WS_E_MEMORY, "no memory for a pickle of %zu bytes", m->n);
}

/* ---- input ---- */

/** @p n bytes of the program, or NULL at its end (reported). */
static const unsigned char *take(machine *m, size_t n)
{
    if (n > m->n - m->at) {
        bad(m, "ends within an operation: the file is cut short");
        return NULL;
    }
    m->at += n;
    return m->p + m->at - n;
}

static uint64_t little(const unsigned char *p, size_t n)
{
    uint64_t v = 0;
    for (size_t i = n; i-- > 0;)
        v = v << 8 | p[i];
    return v;
}

/* ---- nodes and the stack ---- */

static ws_status push_number(machine *m, uint32_t node)
{
    if (m->n_stack >= MAX_STACK)
        return bad(m, "stack is deeper than 65536");
    if (!ws_grow((void **)&m->stack, m->n_stack, &m->cap_stack, sizeof *m->stack))
        return no_memory(m);
    m->stack[m->n_stack++] = node;
    return WS_OK;
}

static ws_status push(machine *m, pickle_node node)
{
    // a state dict has a value in some five bytes; this bounds what hostile ones take
    if (m->n_nodes >= MANY_NODES + m->n / 16)
        return bad(m, "too many values");
    if (!ws_grow((void **)&m->nodes, m->n_nodes, &m->cap_nodes, sizeof *m->nodes))
        return no_memory(m);
    m->nodes[m->n_nodes] = node;
    return push_number(m, (uint32_t)m->n_nodes++);
}

/** Values above the last mark, or above 0. */
static size_t floor_of(const machine *m)
{
    return m->n_marks > 0 ? m->marks[m->n_marks - 1] : 0;
}

/** The number of the value on top, taken off. */
static ws_status pop(machine *m, uint32_t *node)
{
    if (m->n_stack <= floor_of(m))
        return bad(m, "takes a value that is not there");
    *node = m->stack[--m->n_stack];
    return WS_OK;
}

static ws_status top(machine *m, uint32_t *node)
{
    if (m->n_stack <= floor_of(m))
        return bad(m, "takes a value that is not there");
    *node = m->stack[m->n_stack - 1];
    return WS_OK;
}

static ws_status append(machine *m, uint32_t container, uint32_t node)
{
    if (m->n_cells == 0)
        m->n_cells = 1;
    if (m->n_cells >= (size_t)2 * MANY_NODES + m->n / 8)
        return bad(m, "too many values");
    while (m->n_cells >= m->cap_cells)
        if (!ws_grow((void **)&m->cells, m->cap_cells, &m->cap_cells, sizeof *m->cells))
            return no_memory(m);
    const uint32_t cell = (uint32_t)m->n_cells++;
    pickle_node *c = &m->nodes[container];
    m->cells[cell] = (pickle_cell){ node, 0 };
    if (c->u.items.count == 0)
        c->u.items.first = cell;
    else
        m->cells[c->u.items.last].next = cell;
    c->u.items.last = cell;
    c->u.items.count++;
    return WS_OK;
}

static ws_status push_empty(machine *m, enum node_tag tag)
{
    return push(m, (pickle_node){ .tag = tag });
}

static ws_status pop_mark(machine *m, size_t *from)
{
    if (m->n_marks == 0)
        return bad(m, "takes a mark that is not there");
    *from = m->marks[--m->n_marks];
    return WS_OK;
}

/** Values from @p from up become the items of the container, two numbers below or new.
 */
static ws_status append_from(machine *m, uint32_t container, size_t from)
{
    ws_status st = WS_OK;
    for (size_t i = from; st == WS_OK && i < m->n_stack; i++)
        st = append(m, container, m->stack[i]);
    m->n_stack = from;
    return st;
}

/** Item @p i of a tuple. */
static const pickle_node *item(const machine *m, const pickle_node *t, uint32_t i)
{
    uint32_t cell = t->u.items.first;
    while (i-- > 0)
        cell = m->cells[cell].next;
    return &m->nodes[m->cells[cell].node];
}

/* ---- strings ---- */

static ws_status copy_string(machine *m, const unsigned char *p, size_t n,
                             const char **out)
{
    if (n > MAX_STRING)
        return bad(m, "string is longer than 1 MiB");
    if (memchr(p, 0, n) != NULL || !ws_utf8_valid((const char *)p, n))
        return bad(m, "string is not UTF-8, or holds a NUL");
    char *s = ws_arena_calloc(&m->out->arena, n + 1, 1);
    if (s == NULL)
        return no_memory(m);
    memcpy(s, p, n);
    *out = s;
    return WS_OK;
}

/** A string whose length is the next @p width bytes. */
static ws_status op_string(machine *m, size_t width)
{
    const unsigned char *p = take(m, width);
    if (p == NULL)
        return WS_E_HEADER;
    const uint64_t n = little(p, width);
    if (n > m->n - m->at)
        return bad(m, "string goes past the end");
    p = take(m, (size_t)n);
    pickle_node node = { .tag = NODE_STRING };
    const ws_status st = copy_string(m, p, (size_t)n, &node.u.s);
    return st == WS_OK ? push(m, node) : st;
}

/** A line of ASCII, without its end. */
static ws_status take_line(machine *m, char *out, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        const unsigned char *p = take(m, 1);
        if (p == NULL)
            return WS_E_HEADER;
        if (*p == '\n') {
            out[i] = '\0';
            return WS_OK;
        }
        if (*p < 0x20 || *p > 0x7E)
            return bad(m, "name of a global is not ASCII");
        out[i] = (char)*p;
    }
    return bad(m, "name of a global is too long");
}

static ws_status op_global(machine *m)
{
    char module[256], name[256];
    ws_status st = take_line(m, module, sizeof module);
    if (st == WS_OK)
        st = take_line(m, name, sizeof name);
    if (st != WS_OK)
        return st;
    const pickle_global *g = ws_pickle_global(module, name);
    if (g != NULL)
        return push(m, (pickle_node){ .tag = NODE_GLOBAL, .u.global = g });
    ws_fail(m->err, WS_E_UNSUPPORTED, "pickle: unsupported global '%s.%s'", module,
            name);
    ws_err_hint(m->err, "only the tensors of a state dict are read, and nothing in a "
                        "file is ever executed");
    return ws_err_at(m->err, NULL, NULL, (int64_t)m->op_at), WS_E_UNSUPPORTED;
}

/* ---- numbers ---- */

static ws_status push_int(machine *m, int64_t i)
{
    return push(m, (pickle_node){ .tag = NODE_INT, .u.i = i });
}

/** @p width bytes, little-endian, signed or not. */
static ws_status op_int(machine *m, size_t width, bool is_signed)
{
    const unsigned char *p = take(m, width);
    if (p == NULL)
        return WS_E_HEADER;
    uint64_t v = little(p, width);
    if (is_signed && width < 8 && (p[width - 1] & 0x80) != 0)
        v |= ~(uint64_t)0 << (8 * width);
    return push_int(m, (int64_t)v);
}

/** LONG1: a length, then a signed little-endian number. */
static ws_status op_long(machine *m)
{
    const unsigned char *p = take(m, 1);
    if (p == NULL)
        return WS_E_HEADER;
    if (*p > 8)
        return bad(m, "a whole number needs more than 64 bits");
    return *p == 0 ? push_int(m, 0) : op_int(m, *p, true);
}

static ws_status op_float(machine *m)
{
    const unsigned char *p = take(m, 8);
    uint64_t bits = 0;
    pickle_node node = { .tag = NODE_FLOAT };
    if (p == NULL)
        return WS_E_HEADER;
    for (int i = 0; i < 8; i++)
        bits = bits << 8 | p[i];
    memcpy(&node.u.f, &bits, sizeof bits);
    return push(m, node);
}

/* ---- the memo ---- */

/** Picklers number what they remember in order; so no number decides a size here. */
static ws_status op_put(machine *m, size_t width)
{
    const unsigned char *p = take(m, width);
    uint32_t node = 0;
    if (p == NULL)
        return WS_E_HEADER;
    const uint64_t i = little(p, width);
    const ws_status st = top(m, &node);
    if (st != WS_OK)
        return st;
    if (i > m->n_memo)
        return bad(m, "memo numbers are out of order");
    if (i == m->n_memo) {
        if (!ws_grow((void **)&m->memo, m->n_memo, &m->cap_memo, sizeof *m->memo))
            return no_memory(m);
        m->n_memo++;
    }
    m->memo[i] = node;
    return WS_OK;
}

static ws_status op_get(machine *m, size_t width)
{
    const unsigned char *p = take(m, width);
    if (p == NULL)
        return WS_E_HEADER;
    const uint64_t i = little(p, width);
    if (i >= m->n_memo)
        return bad(m, "memo holds no such number");
    return push_number(m, m->memo[i]);
}

/* ---- containers ---- */

static ws_status op_mark(machine *m)
{
    if (m->n_marks == MAX_MARKS)
        return bad(m, "marks are deeper than 100");
    m->marks[m->n_marks++] = m->n_stack;
    return WS_OK;
}

/** The last @p n values as a tuple. */
static ws_status op_tuple(machine *m, size_t n)
{
    if (m->n_stack < n || m->n_stack - n < floor_of(m))
        return bad(m, "takes a value that is not there");
    const size_t from = m->n_stack - n;
    uint32_t items[3];
    for (size_t i = 0; i < n; i++)
        items[i] = m->stack[from + i];
    m->n_stack = from;
    ws_status st = push_empty(m, NODE_TUPLE);
    for (size_t i = 0; st == WS_OK && i < n; i++)
        st = append(m, (uint32_t)m->n_nodes - 1, items[i]);
    return st;
}

static ws_status op_tuple_mark(machine *m)
{
    size_t from = 0;
    ws_status st = pop_mark(m, &from);
    if (st != WS_OK)
        return st;
    const size_t end = m->n_stack;
    st = push_empty(m, NODE_TUPLE);
    const uint32_t tuple = (uint32_t)m->n_nodes - 1;
    for (size_t i = from; st == WS_OK && i < end; i++)
        st = append(m, tuple, m->stack[i]);
    if (st == WS_OK) {
        m->n_stack = from;
        st = push_number(m, tuple);
    }
    return st;
}

/** APPEND, SETITEM: the last @p n values go into what lies below them. */
static ws_status op_add(machine *m, enum node_tag tag, size_t n)
{
    if (m->n_stack < n + 1 || m->n_stack - n - 1 < floor_of(m))
        return bad(m, "takes a value that is not there");
    const uint32_t container = m->stack[m->n_stack - n - 1];
    if (m->nodes[container].tag != tag)
        return bad(m, tag == NODE_DICT ? "sets an item of what is no dictionary"
                                       : "appends to what is no list");
    return append_from(m, container, m->n_stack - n);
}

/** APPENDS, SETITEMS: the same with all values above the mark. */
static ws_status op_add_mark(machine *m, enum node_tag tag)
{
    size_t from = 0;
    const ws_status st = pop_mark(m, &from);
    if (st != WS_OK)
        return st;
    if (tag == NODE_DICT && (m->n_stack - from) % 2 != 0)
        return bad(m, "sets a key without a value");
    return op_add(m, tag, m->n_stack - from);
}

/* ---- storages and tensors ---- */

static ws_status add_storage(machine *m, ws_pickle_storage s, int64_t *number)
{
    ws_pickle *o = m->out;
    for (size_t i = 0; i < o->n_storages; i++) {
        const ws_pickle_storage *t = &o->storages[i];
        if (strcmp(t->key, s.key) != 0)
            continue;
        if (t->untyped != s.untyped || t->dtype != s.dtype || t->count != s.count)
            return bad(m, "one storage has two types or sizes");
        *number = (int64_t)i;
        return WS_OK;
    }
    if (!ws_grow((void **)&o->storages, o->n_storages, &o->cap_storages, sizeof s))
        return no_memory(m);
    *number = (int64_t)o->n_storages;
    o->storages[o->n_storages++] = s;
    return WS_OK;
}

/** BINPERSID: ('storage', class, key, location, count). */
static ws_status op_storage(machine *m)
{
    uint32_t number = 0;
    ws_status st = pop(m, &number);
    if (st != WS_OK)
        return st;
    const pickle_node *t = &m->nodes[number];
    if (t->tag != NODE_TUPLE || t->u.items.count != 5)
        return bad(m, "a persistent id is no tuple of 5");
    const pickle_node *word = item(m, t, 0), *class = item(m, t, 1);
    const pickle_node *key = item(m, t, 2), *where = item(m, t, 3);
    const pickle_node *count = item(m, t, 4);
    if (word->tag != NODE_STRING || strcmp(word->u.s, "storage") != 0 ||
        class->tag != NODE_GLOBAL || key->tag != NODE_STRING ||
        where->tag != NODE_STRING || count->tag != NODE_INT || count->u.i < 0)
        return bad(m,
                   "a persistent id is not ('storage', class, key, location, count)");
    if (class->u.global->kind != GLOBAL_STORAGE &&
        class->u.global->kind != GLOBAL_UNTYPED)
        return bad(m, "a storage's class is none");
    if (strcmp(where->u.s, "meta") == 0)
        return fail(m, WS_E_UNSUPPORTED, "a tensor on device 'meta' has no data");
    const ws_pickle_storage s = { .key = key->u.s,
                                  .untyped = class->u.global->kind == GLOBAL_UNTYPED,
                                  .dtype = class->u.global->dtype,
                                  .count = (uint64_t)count->u.i };
    pickle_node node = { .tag = NODE_STORAGE };
    st = add_storage(m, s, &node.u.i);
    return st == WS_OK ? push(m, node) : st;
}

/** A tuple of whole numbers >= 0 into the arena. */
static ws_status numbers(machine *m, const pickle_node *t, const uint64_t **out,
                         int *rank)
{
    if (t->tag != NODE_TUPLE || t->u.items.count > WS_MAX_RANK)
        return bad(m, "a tensor's shape is no tuple of at most 64 numbers");
    uint64_t *v = ws_arena_calloc(&m->out->arena, t->u.items.count + 1, sizeof *v);
    if (v == NULL)
        return no_memory(m);
    for (uint32_t i = 0; i < t->u.items.count; i++) {
        const pickle_node *x = item(m, t, i);
        if (x->tag != NODE_INT || x->u.i < 0)
            return bad(m, "a tensor's shape or stride is no whole number >= 0");
        v[i] = (uint64_t)x->u.i;
    }
    *out = v;
    *rank = (int)t->u.items.count;
    return WS_OK;
}

/** _rebuild_tensor*: (storage, offset, size, stride, ...). A v3 has its dtype last but
 * for metadata. The tensor has no name yet. */
static ws_status rebuild(machine *m, const pickle_node *args, enum global_kind kind)
{
    const uint32_t n = args->u.items.count;
    const uint32_t least = kind == GLOBAL_TENSOR_V1   ? 4
                           : kind == GLOBAL_TENSOR_V2 ? 6
                                                      : 7;
    if (n < least || n > least + (kind != GLOBAL_TENSOR_V1))
        return bad(m, "a tensor is made from another number of arguments");
    const pickle_node *storage = item(m, args, 0), *offset = item(m, args, 1);
    if (storage->tag != NODE_STORAGE || offset->tag != NODE_INT || offset->u.i < 0)
        return bad(m, "a tensor is not made from a storage and an offset");
    ws_pickle *o = m->out;
    const ws_pickle_storage *s = &o->storages[storage->u.i];
    ws_pickle_tensor t = { .storage = (uint32_t)storage->u.i,
                           .dtype = s->dtype,
                           .offset = (uint64_t)offset->u.i };
    int ranks[2];
    ws_status st = numbers(m, item(m, args, 2), &t.shape, &ranks[0]);
    if (st == WS_OK)
        st = numbers(m, item(m, args, 3), &t.stride, &ranks[1]);
    if (st != WS_OK)
        return st;
    if (ranks[0] != ranks[1])
        return bad(m, "a tensor's shape and strides differ in length");
    if (kind == GLOBAL_TENSOR_V3) {
        const pickle_node *d = item(m, args, 6);
        if (d->tag != NODE_GLOBAL || d->u.global->kind != GLOBAL_DTYPE)
            return bad(m, "a tensor's dtype is none");
        t.dtype = d->u.global->dtype;
    } else if (s->untyped) {
        return bad(m, "a tensor of untyped bytes says no dtype");
    }
    t.rank = ranks[0];
    if (!ws_grow((void **)&o->tensors, o->n, &o->cap, sizeof t))
        return no_memory(m);
    o->tensors[o->n] = t;
    return push(m, (pickle_node){ .tag = NODE_TENSOR, .u.i = (int64_t)o->n++ });
}

static ws_status op_reduce(machine *m)
{
    uint32_t args = 0, callable = 0;
    ws_status st = pop(m, &args);
    if (st == WS_OK)
        st = pop(m, &callable);
    if (st != WS_OK)
        return st;
    const pickle_node *f = &m->nodes[callable], *a = &m->nodes[args];
    if (f->tag != NODE_GLOBAL || a->tag != NODE_TUPLE)
        return bad(m, "calls what is no function of the table");
    const uint32_t n = a->u.items.count;
    switch (f->u.global->kind) {
    case GLOBAL_DICT:
        return n == 0 ? push_empty(m, NODE_DICT)
                      : bad(m, "a dictionary is made from arguments");
    case GLOBAL_TENSOR_V1:
    case GLOBAL_TENSOR_V2:
    case GLOBAL_TENSOR_V3:
        return rebuild(m, a, f->u.global->kind);
    case GLOBAL_PARAMETER:
        if (n < 1 || n > 3 || item(m, a, 0)->tag != NODE_TENSOR)
            return bad(m, "a parameter is not made from a tensor");
        return push(m, *item(m, a, 0));
    case GLOBAL_SIZE:
        if (n != 1 || item(m, a, 0)->tag != NODE_TUPLE)
            return bad(m, "a size is not made from a tuple");
        return push(m, *item(m, a, 0));
    default:
        return bad(m, "calls what is no function");
    }
}

/** BUILD: the state of a module's dictionary (_metadata) is left out. */
static ws_status op_build(machine *m)
{
    uint32_t state = 0, object = 0;
    ws_status st = pop(m, &state);
    if (st == WS_OK)
        st = top(m, &object);
    if (st != WS_OK)
        return st;
    if (m->nodes[object].tag != NODE_DICT || m->nodes[state].tag != NODE_DICT)
        return bad(m, "gives a state to what is no dictionary");
    return WS_OK;
}

/* ---- the program ---- */

static ws_status op_proto(machine *m)
{
    const unsigned char *p = take(m, 1);
    if (p == NULL)
        return WS_E_HEADER;
    return *p == 2 ? WS_OK
                   : fail(m, WS_E_UNSUPPORTED, "protocol is not 2, torch.save's own");
}

static ws_status unknown(machine *m, unsigned char op)
{
    ws_fail(m->err, WS_E_UNSUPPORTED, "pickle: operation 0x%02x is not allowed", op);
    ws_err_hint(m->err, "only the tensors of a state dict are read, and nothing in a "
                        "file is ever executed");
    return ws_err_at(m->err, NULL, NULL, (int64_t)m->op_at), WS_E_UNSUPPORTED;
}

static ws_status step(machine *m, unsigned char op)
{
    switch (op) {
    case 0x80:
        return op_proto(m);
    case 'c':
        return op_global(m);
    case 'q':
        return op_put(m, 1);
    case 'r':
        return op_put(m, 4);
    case 'h':
        return op_get(m, 1);
    case 'j':
        return op_get(m, 4);
    case '(':
        return op_mark(m);
    case ')':
        return push_empty(m, NODE_TUPLE);
    case ']':
        return push_empty(m, NODE_LIST);
    case '}':
        return push_empty(m, NODE_DICT);
    case 't':
        return op_tuple_mark(m);
    case 0x85:
        return op_tuple(m, 1);
    case 0x86:
        return op_tuple(m, 2);
    case 0x87:
        return op_tuple(m, 3);
    case 'N':
        return push_empty(m, NODE_NONE);
    case 0x88:
        return push(m, (pickle_node){ .tag = NODE_BOOL, .u.i = 1 });
    case 0x89:
        return push(m, (pickle_node){ .tag = NODE_BOOL, .u.i = 0 });
    case 'J':
        return op_int(m, 4, true);
    case 'K':
        return op_int(m, 1, false);
    case 'M':
        return op_int(m, 2, false);
    case 0x8a:
        return op_long(m);
    case 'G':
        return op_float(m);
    case 'X':
        return op_string(m, 4);
    case 'U':
        return op_string(m, 1);
    case 'Q':
        return op_storage(m);
    case 'R':
        return op_reduce(m);
    case 'b':
        return op_build(m);
    case 's':
        return op_add(m, NODE_DICT, 2);
    case 'u':
        return op_add_mark(m, NODE_DICT);
    case 'a':
        return op_add(m, NODE_LIST, 1);
    case 'e':
        return op_add_mark(m, NODE_LIST);
    case '.':
        m->done = true;
        return WS_OK;
    default:
        return unknown(m, op);
    }
}

static ws_status run(machine *m)
{
    ws_status st = WS_OK;
    for (size_t i = 0; st == WS_OK && !m->done; i++) {
        m->op_at = m->at;
        if (i == MAX_STEPS)
            return bad(m, "has more than 10 million operations");
        const unsigned char *p = take(m, 1);
        st = p == NULL ? WS_E_HEADER : step(m, *p);
    }
    if (st != WS_OK)
        return st;
    if (m->at != m->n)
        return bad(m, "goes on after its end");
    if (m->n_stack != 1 || m->n_marks != 0)
        return bad(m, "leaves more or less than one value");
    return WS_OK;
}

/* ---- the state dict ---- */

/** Tensors among the values of a dictionary. */
static size_t count_tensors(const machine *m, const pickle_node *d)
{
    size_t n = 0;
    uint32_t cell = d->u.items.first;
    for (uint32_t i = 0; i < d->u.items.count; i++, cell = m->cells[cell].next)
        n += i % 2 == 1 && m->nodes[m->cells[cell].node].tag == NODE_TENSOR;
    return n;
}

/** The value of the dictionary's @p key, or NULL. */
static const pickle_node *look_up(const machine *m, const pickle_node *d,
                                  const char *key)
{
    uint32_t cell = d->u.items.first;
    for (uint32_t i = 0; i + 1 < d->u.items.count; i += 2) {
        const pickle_node *k = &m->nodes[m->cells[cell].node];
        const uint32_t value = m->cells[cell].next;
        if (k->tag == NODE_STRING && strcmp(k->u.s, key) == 0)
            return &m->nodes[m->cells[value].node];
        cell = m->cells[value].next;
    }
    return NULL;
}

/** The dictionary that holds tensors: the root, or one that training scripts wrap. */
static const pickle_node *find_dict(machine *m)
{
    static const char *const wraps[] = { "state_dict", "model", "module" };
    const pickle_node *root = &m->nodes[m->stack[0]];
    if (root->tag != NODE_DICT || count_tensors(m, root) > 0)
        return root->tag == NODE_DICT ? root : NULL;
    for (size_t i = 0; i < sizeof wraps / sizeof *wraps; i++) {
        const pickle_node *d = look_up(m, root, wraps[i]);
        if (d != NULL && d->tag == NODE_DICT && count_tensors(m, d) > 0) {
            m->out->inside = wraps[i];
            return d;
        }
    }
    return root;
}

/** Names for the tensors of the state dict, in its order; others go. */
static ws_status collect(machine *m)
{
    const pickle_node *d = find_dict(m);
    ws_pickle *o = m->out;
    if (d == NULL)
        return fail(m, WS_E_UNSUPPORTED, "holds no dictionary of tensors");
    const size_t n = count_tensors(m, d);
    ws_pickle_tensor *named = ws_calloc(n + 1, sizeof *named);
    if (named == NULL)
        return no_memory(m);
    size_t found = 0;
    uint32_t cell = d->u.items.first;
    ws_status st = WS_OK;
    for (uint32_t i = 0; st == WS_OK && i + 1 < d->u.items.count; i += 2) {
        const pickle_node *key = &m->nodes[m->cells[cell].node];
        const uint32_t value = m->cells[cell].next;
        const pickle_node *v = &m->nodes[m->cells[value].node];
        cell = m->cells[value].next;
        if (v->tag != NODE_TENSOR) {
            o->n_other++;
        } else if (key->tag != NODE_STRING) {
            st = bad(m, "a tensor's name is no string");
        } else {
            named[found] = o->tensors[v->u.i];
            named[found++].name = key->u.s;
        }
    }
    ws_free(o->tensors);
    o->tensors = named;
    o->n = o->cap = found;
    return st;
}

ws_status ws_pickle_parse(ws_pickle *out, const void *data, size_t n, ws_err *err)
{
    *out = (ws_pickle){ 0 };
    machine m = { .out = out, .p = data, .n = n, .err = err };
    ws_status st = n > MAX_BYTES ? bad(&m, "is longer than 256 MiB") : run(&m);
    if (st == WS_OK)
        st = collect(&m);
    ws_free(m.nodes);
    ws_free(m.cells);
    ws_free(m.stack);
    ws_free(m.memo);
    if (st != WS_OK)
        ws_pickle_free(out);
    return st;
}

void ws_pickle_free(ws_pickle *p)
{
    ws_free(p->storages);
    ws_free(p->tensors);
    ws_arena_free(&p->arena);
    *p = (ws_pickle){ 0 };
}
