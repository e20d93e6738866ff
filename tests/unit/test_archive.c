/*
 * test_archive.c - PyTorch's and NumPy's files: the numbers that those packages wrote,
 * and files that lie
 */
#include "ws_test.h"

#include "base/os.h"
#include "ckpt/ckpt_internal.h"
#include "ckpt/pickle.h"

#include <unistd.h>

#define FORMATS WS_GOLDEN "/formats/"

static char room[64];

static int make_room(void **state)
{
    (void)state;
    snprintf(room, sizeof room, "/tmp/wsurg-test-XXXXXX");
    return mkdtemp(room) == NULL;
}

static int remove_room(void **state)
{
    (void)state;
    return ws_os_remove_tree(room, NULL) != WS_OK;
}

static ws_ckpt *open_good(const char *path)
{
    ws_ckpt *c = NULL;
    ws_err err = WS_ERR_INIT;
    assert_ok(ws_ckpt_open(&c, path, NULL, &err), err);
    return c;
}

/** Ranges of a tensor, whole and cut anywhere, are those of the other file. */
static void assert_same_tensor(const ws_ckpt *a, const ws_tensor *t, const ws_ckpt *b)
{
    const ws_tensor *u = ws_ckpt_find(b, t->name);
    unsigned char x[2048], y[2048];
    assert_non_null(u);
    assert_int_equal(t->dtype, u->dtype);
    assert_int_equal(t->rank, u->rank);
    assert_memory_equal(t->shape, u->shape, (size_t)t->rank * sizeof *t->shape);
    assert_int_equal(t->n_bytes, u->n_bytes);
    assert_true(t->n_bytes <= sizeof x);
    assert_int_equal(ws_ckpt_read(b, u, 0, (size_t)u->n_bytes, y, NULL), WS_OK);
    for (uint64_t from = 0; from < t->n_bytes; from += 7)
        for (uint64_t n = 1; n <= t->n_bytes - from; n += n < 40 ? 1 : 37) {
            assert_int_equal(ws_ckpt_read(a, t, from, (size_t)n, x, NULL), WS_OK);
            assert_memory_equal(x, y + from, (size_t)n);
        }
}

static void assert_same_files(const char *name, const char *twin, const char *format)
{
    ws_ckpt *a = open_good(name), *b = open_good(twin);
    assert_string_equal(ws_ckpt_format(a), format);
    assert_int_equal(ws_ckpt_count(a), ws_ckpt_count(b));
    for (size_t i = 0; i < ws_ckpt_count(a); i++)
        assert_same_tensor(a, ws_ckpt_tensor(a, i), b);
    ws_ckpt_free(a);
    ws_ckpt_free(b);
}

static unsigned char *slurp(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    unsigned char *p = malloc(16384);
    assert_non_null(p);
    *n = fread(p, 1, 16384, f);
    assert_true(*n > 0 && *n < 16384);
    fclose(f);
    return p;
}

static const char *put(const void *data, size_t n)
{
    static char path[300];
    snprintf(path, sizeof path, "%s/file", room);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
    return path;
}

static void files_of_other_packages_hold_the_same_numbers(void **state)
{
    (void)state;
    assert_same_files(FORMATS "kinds.pt", FORMATS "kinds.safetensors", "pytorch");
    assert_same_files(FORMATS "views.pt", FORMATS "views.safetensors", "pytorch");
    assert_same_files(FORMATS "wrapped.v1.ckpt", FORMATS "wrapped.v1.safetensors",
                      "pytorch");
    assert_same_files(FORMATS "arrays.npz", FORMATS "arrays.safetensors", "npz");
}

static void an_archive_in_place_of_safetensors_is_refused(void **state)
{
    size_t n;
    char path[128];
    ws_ckpt *c = NULL;
    ws_err err = WS_ERR_INIT;
    unsigned char *p = slurp(FORMATS "kinds.pt", &n);
    (void)state;
    snprintf(path, sizeof path, "%s/model.safetensors", room);
    assert_int_equal(rename(put(p, n), path), 0);
    assert_int_equal(ws_ckpt_open(&c, room, NULL, &err), WS_E_UNSUPPORTED);
    assert_string_equal(err.msg,
                        "file is a zip archive where a safetensors file is expected");
    assert_int_equal(remove(path), 0);
    free(p);
}

/** In a directory without safetensors, PyTorch's own names are read. */
static void a_directory_of_pytorch_files_is_read(void **state)
{
    size_t n;
    char path[128];
    unsigned char *p = slurp(FORMATS "views.pt", &n);
    (void)state;
    snprintf(path, sizeof path, "%s/pytorch_model.bin", room);
    assert_int_equal(rename(put(p, n), path), 0);
    assert_same_files(room, FORMATS "views.safetensors", "pytorch");
    assert_int_equal(remove(path), 0);
    free(p);
}

static void a_wrapped_state_dict_is_told(void **state)
{
    ws_ckpt *c = NULL;
    ws_diag notes = { 0 };
    (void)state;
    assert_int_equal(ws_ckpt_open(&c, FORMATS "wrapped.v1.ckpt", &notes, NULL), WS_OK);
    assert_int_equal(notes.n, 1);
    assert_string_equal(notes.items[0].msg, "tensors are those under key 'state_dict'");
    ws_ckpt_free(c);
    ws_diag_free(&notes);
}

/* ---- files that lie ---- */

static void a_file_cut_short_is_refused(void **state)
{
    static const char *const names[] = { FORMATS "kinds.pt", FORMATS "arrays.npz" };
    (void)state;
    for (size_t k = 0; k < 2; k++) {
        size_t n;
        unsigned char *p = slurp(names[k], &n);
        for (size_t cut = 1; cut < n; cut += 13) {
            ws_ckpt *c = NULL;
            ws_err err = WS_ERR_INIT;
            const long live = ws_alloc_live();
            assert_int_equal(ws_ckpt_open(&c, put(p, cut), NULL, &err), WS_E_HEADER);
            assert_true(err.msg[0] != '\0');
            assert_int_equal(ws_alloc_live(), live);
        }
        free(p);
    }
}

/** Turn any byte: the file is refused, or opens; never a crash, a leak or a status that
 * readers do not have. */
static void a_turned_byte_does_no_harm(void **state)
{
    size_t n;
    unsigned char *p = slurp(FORMATS "wrapped.v1.ckpt", &n);
    (void)state;
    for (size_t i = 0; i < n; i += 3) {
        ws_ckpt *c = NULL;
        const long live = ws_alloc_live();
        p[i] ^= 0x41;
        const ws_status st = ws_ckpt_open(&c, put(p, n), NULL, NULL);
        assert_true(st == WS_OK || st == WS_E_HEADER || st == WS_E_UNSUPPORTED ||
                    st == WS_E_MISSING);
        if (st == WS_OK)
            ws_ckpt_free(c);
        assert_int_equal(ws_alloc_live(), live);
        p[i] ^= 0x41;
    }
    free(p);
}

/** Where the last entry of the directory begins. */
static size_t last_entry(const unsigned char *p, size_t n)
{
    size_t i = n - 4;
    while (memcmp(p + i, "PK\1\2", 4) != 0) {
        assert_true(i > 0);
        i--;
    }
    return i;
}

static void assert_refused(const void *data, size_t n, const char *says)
{
    ws_ckpt *c = NULL;
    ws_err err = WS_ERR_INIT;
    assert_int_not_equal(ws_ckpt_open(&c, put(data, n), NULL, &err), WS_OK);
    assert_string_equal(err.msg, says);
}

static void archives_that_readers_take_differently_are_refused(void **state)
{
    size_t n;
    unsigned char *p = slurp(FORMATS "arrays.npz", &n);
    unsigned char *entry = p + last_entry(p, n);
    (void)state;
    entry[10] = 8; // deflated in the directory alone
    assert_refused(p, n,
                   "zip member 'flags.npy' is compressed: only stored members are read "
                   "in place");
    entry[10] = 0;
    entry[8] = 1;
    assert_refused(p, n, "zip member 'flags.npy' is encrypted");
    entry[8] = 0;
    entry[46] = 'F';
    assert_refused(p, n, "zip member 'Flags.npy' has another name in its own header");
    entry[46] = 'f';
    entry[24]++;
    assert_refused(p, n, "zip member 'flags.npy' is stored and has two sizes");
    entry[24]--;
    memcpy(entry + 46, "../.", 4);
    assert_refused(p, n, "zip archive: a member's name is no plain relative path");
    free(p);
}

struct program {
    const char *bytes;
    size_t n;
    ws_status status;
    const char *says; // NULL: accepted
};

#define P(text) (text), sizeof(text) - 1
#define STORAGE "(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0000X\3\0\0\0cpuK\6tQ"

static const struct program programs[] = {
    { P("\x80\2}."), WS_OK, NULL },
    { P("\x80\2cposix\nsystem\nX\2\0\0\0id\x85R."), WS_E_UNSUPPORTED,
      "pickle: unsupported global 'posix.system'" },
    { P("\x80\2cbuiltins\neval\n."), WS_E_UNSUPPORTED,
      "pickle: unsupported global 'builtins.eval'" },
    { P("\x80\2ctorch\nFloatStorage2\n."), WS_E_UNSUPPORTED,
      "pickle: unsupported global 'torch.FloatStorage2'" },
    { P("\x80\4}."), WS_E_UNSUPPORTED, "pickle: protocol is not 2, torch.save's own" },
    { P("\x80\2i"), WS_E_UNSUPPORTED, "pickle: operation 0x69 is not allowed" },
    { P("\x80\2}"), WS_E_HEADER,
      "pickle: ends within an operation: the file is cut short" },
    { P("\x80\2}.N"), WS_E_HEADER, "pickle: goes on after its end" },
    { P("\x80\2}}."), WS_E_HEADER, "pickle: leaves more or less than one value" },
    { P("\x80\2s."), WS_E_HEADER, "pickle: takes a value that is not there" },
    { P("\x80\2u."), WS_E_HEADER, "pickle: takes a mark that is not there" },
    { P("\x80\2](K\1K\2u."), WS_E_HEADER,
      "pickle: sets an item of what is no dictionary" },
    { P("\x80\2}(K\1u."), WS_E_HEADER, "pickle: sets a key without a value" },
    { P("\x80\2}(K\1e."), WS_E_HEADER, "pickle: appends to what is no list" },
    { P("\x80\2}r\5\0\0\0."), WS_E_HEADER, "pickle: memo numbers are out of order" },
    { P("\x80\2h\0."), WS_E_HEADER, "pickle: memo holds no such number" },
    { P("\x80\2X\xFF\xFF\xFF\x7F."), WS_E_HEADER, "pickle: string goes past the end" },
    { P("\x80\2]q\0h\0a."), WS_E_UNSUPPORTED,
      "pickle: holds no dictionary of tensors" }, // a list that holds itself
    { P("\x80\2K\1)R."), WS_E_HEADER,
      "pickle: calls what is no function of the table" },
    { P("\x80\2ctorch\nFloatStorage\n)R."), WS_E_HEADER,
      "pickle: calls what is no function" },
    { P("\x80\2K\1}b."), WS_E_HEADER,
      "pickle: gives a state to what is no dictionary" },
    { P("\x80\2K\1Q."), WS_E_HEADER, "pickle: a persistent id is no tuple of 5" },
    { P("\x80\2(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0000X\4\0\0\0metaK\6tQ."),
      WS_E_UNSUPPORTED, "pickle: a tensor on device 'meta' has no data" },
    { P("\x80\2ctorch._utils\n_rebuild_tensor_v2\n(" STORAGE "K\0tR."), WS_E_HEADER,
      "pickle: a tensor is made from another number of arguments" },
    { P("\x80\2ctorch._utils\n_rebuild_tensor\n(" STORAGE "K\0K\2K\3\x86K\1\x85tR."),
      WS_E_HEADER, "pickle: a tensor's shape and strides differ in length" },
    { P("\x80\2ctorch._utils\n_rebuild_tensor\n(" STORAGE
        "K\0J\xFF\xFF\xFF\xFF\x85K\1\x85tR."),
      WS_E_HEADER, "pickle: a tensor's shape or stride is no whole number >= 0" },
};

static void programs_get_their_verdict(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof programs / sizeof *programs; i++) {
        const struct program *p = &programs[i];
        ws_pickle out;
        ws_err err = WS_ERR_INIT;
        const long live = ws_alloc_live();
        const ws_status st = ws_pickle_parse(&out, p->bytes, p->n, &err);
        if (st != p->status || (p->says != NULL && strcmp(p->says, err.msg) != 0))
            fail_msg("program %zu: status %d, '%s'", i, (int)st, err.msg);
        if (st == WS_OK)
            ws_pickle_free(&out);
        assert_int_equal(ws_alloc_live(), live);
    }
}

static void a_state_dict_gives_its_tensors(void **state)
{
    static const char text[] =
        "\x80\2}X\1\0\0\0wctorch._utils\n_rebuild_tensor\n(" STORAGE
        "K\1K\2K\2\x86K\2K\1\x86tRs.";
    ws_pickle out;
    (void)state;
    assert_int_equal(ws_pickle_parse(&out, text, sizeof text - 1, NULL), WS_OK);
    assert_int_equal(out.n, 1);
    assert_string_equal(out.tensors[0].name, "w");
    assert_int_equal(out.tensors[0].dtype, WS_DT_F32);
    assert_int_equal(out.tensors[0].offset, 1);
    assert_int_equal(out.tensors[0].rank, 2);
    assert_int_equal(out.tensors[0].stride[0], 2);
    assert_string_equal(out.storages[0].key, "0");
    assert_int_equal(out.storages[0].count, 6);
    ws_pickle_free(&out);
}

/** npy files of 24 bytes of data whose header is this literal. */
static const char *npy(const char *literal, size_t *n)
{
    static char file[512];
    const size_t len = strlen(literal);
    memset(file, 0, sizeof file);
    memcpy(file, "\x93NUMPY\1\0", 8);
    file[8] = (char)len;
    memcpy(file + 10, literal, len);
    *n = 10 + len + 24;
    return file;
}

static void headers_of_arrays_get_their_verdict(void **state)
{
    static const struct {
        const char *literal, *says; // NULL: accepted
    } cases[] = {
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n", NULL },
        { "{\"shape\": (6L,), \"fortran_order\": True, \"descr\": '>f4'}", NULL },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 4), }\n",
          "array has 24 bytes of data, its shape needs 32" },
        { "{'descr': '|O', 'fortran_order': False, 'shape': (3,), }\n",
          "npy header: type '|O' is no plain number: not read" },
        { "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (6,)}\n",
          "npy header: a string is missing; arrays of records are not read" },
        { "{'descr': '<f4', 'fortran_order': 1, 'shape': (6,)}\n",
          "npy header: fortran_order is neither True nor False" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (6)}\n",
          "npy header: shape is a number, no tuple" },
        { "{'descr': '<f4', 'descr': '<f4', 'shape': (6,)}\n",
          "npy header: a key is unknown or stands twice" },
        { "{'descr': '<f4', 'fortran_order': False}\n",
          "npy header: descr, fortran_order or shape is missing" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (6,)} + x\n",
          "npy header: text after the dictionary" },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}",
          "npy header: a dimension is beyond 64 bits" },
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t n;
        ws_ckpt *c = NULL;
        ws_err err = WS_ERR_INIT;
        const char *file = npy(cases[i].literal, &n);
        const ws_status st = ws_ckpt_open(&c, put(file, n), NULL, &err);
        assert_true((st == WS_OK) == (cases[i].says == NULL));
        if (st == WS_OK)
            ws_ckpt_free(c);
        else
            assert_string_equal(err.msg, cases[i].says);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_of_other_packages_hold_the_same_numbers),
        cmocka_unit_test(an_archive_in_place_of_safetensors_is_refused),
        cmocka_unit_test(a_directory_of_pytorch_files_is_read),
        cmocka_unit_test(a_wrapped_state_dict_is_told),
        cmocka_unit_test(a_file_cut_short_is_refused),
        cmocka_unit_test(a_turned_byte_does_no_harm),
        cmocka_unit_test(archives_that_readers_take_differently_are_refused),
        cmocka_unit_test(programs_get_their_verdict),
        cmocka_unit_test(a_state_dict_gives_its_tensors),
        cmocka_unit_test(headers_of_arrays_get_their_verdict),
    };
    return cmocka_run_group_tests(tests, make_room, remove_room);
}
