/*
 * test_hf_index.c - indexes of shards, and the directories around them
 */
#include "ws_test.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../fuzz/index_vectors.h"
#include "base/os.h"
#include "ckpt/ckpt_internal.h"
#include "wsurg/text.h"

#define X     "model-00001-of-00002.safetensors"
#define Y     "model-00002-of-00002.safetensors"
#define INDEX "model.safetensors.index.json"

static char dir[64];

static int make_dir(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/wsurg-test-XXXXXX");
    return mkdtemp(dir) == NULL;
}

static int remove_dir(void **state)
{
    (void)state;
    return ws_os_remove_tree(dir, NULL) != WS_OK;
}

static const char *in_dir(const char *name)
{
    static char path[4][256];
    static int next;
    next = (next + 1) % 4;
    snprintf(path[next], sizeof path[next], "%s/%s", dir, name);
    return path[next];
}

static void put(const char *name, const void *data, size_t n)
{
    FILE *f = fopen(in_dir(name), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static void put_text(const char *name, const char *text)
{
    put(name, text, strlen(text));
}

/** A shard with U8 tensors of one byte, called by the letters of @p names. */
static void put_shard(const char *file, const char *names)
{
    ws_buf b = { 0 };
    ws_buf_add(&b, "\0\0\0\0\0\0\0\0{\"__metadata__\":{\"format\":\"pt\"}", 39);
    for (int i = 0; names[i] != '\0'; i++)
        ws_buf_printf(
            &b, ",\"%c\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[%d,%d]}",
            names[i], i, i + 1);
    ws_buf_putc(&b, '}');
    const size_t n = b.n - 8;
    b.p[0] = (char)(n & 0xFF);
    b.p[1] = (char)(n >> 8);
    ws_buf_puts(&b, names); // each tensor's byte is its name
    put(file, b.p, b.n);
    ws_buf_free(&b);
}

/** An index with this weight_map and total_size. */
static void put_index(const char *map, const char *metadata)
{
    ws_buf b = { 0 };
    ws_buf_printf(&b, "{\"metadata\":%s,\"weight_map\":%s}", metadata, map);
    put(INDEX, b.p, b.n);
    ws_buf_free(&b);
}

#define SIZE3    "{\"total_size\":3}"
#define GOOD_MAP "{\"a\":\"" X "\",\"b\":\"" Y "\",\"c\":\"" X "\"}"

static void put_good(void)
{
    put_index(GOOD_MAP, SIZE3);
    put_shard(X, "ac");
    put_shard(Y, "b");
}

static void clean(void)
{
    assert_int_equal(ws_os_remove_tree(dir, NULL), WS_OK);
    assert_int_equal(mkdir(dir, 0700), 0);
}

static int clean_after(void **state)
{
    (void)state;
    clean();
    return 0;
}

static ws_ckpt *open_good(ws_diag *warnings)
{
    ws_ckpt *c = NULL;
    ws_err err = WS_ERR_INIT;
    assert_ok(ws_ckpt_open(&c, dir, warnings, &err), err);
    return c;
}

/** Opening the directory fails with this; what it says goes to @p err. */
static void open_bad(ws_status want, const char *says, ws_err *err)
{
    ws_ckpt *c = NULL;
    *err = (ws_err)WS_ERR_INIT;
    const long live = ws_alloc_live();
    assert_int_equal(ws_ckpt_open(&c, dir, NULL, err), want);
    assert_string_equal(err->msg, says);
    assert_true(err->path[0] != '\0');
    assert_null(c);
    assert_int_equal(ws_alloc_live(), live);
}

/* ---- the index alone ---- */

static void vectors_get_their_verdict(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_INDEX_VECTORS; i++) {
        const struct index_vector *v = &index_vectors[i];
        ws_hf_index x = { 0 };
        ws_err err = WS_ERR_INIT;
        const ws_status st = ws_hf_index_parse(&x, v->text, v->n, ".safetensors", &err);
        if (st != v->verdict)
            fail_msg("%s: status %d, want %d: %s", v->name, st, v->verdict, err.msg);
        if (v->says != NULL && strstr(err.msg, v->says) == NULL)
            fail_msg("%s: says '%s', want '%s'", v->name, err.msg, v->says);
        ws_hf_index_free(&x);
    }
}

static void shards_are_listed_once_in_byte_order(void **state)
{
    (void)state;
    const struct index_vector *v = &index_vectors[1];
    ws_hf_index x = { 0 };
    ws_err err = WS_ERR_INIT;
    assert_ok(ws_hf_index_parse(&x, v->text, v->n, ".safetensors", &err), err);
    assert_int_equal(x.n, 3);
    assert_string_equal(x.entries[0].tensor, "b");
    assert_string_equal(x.entries[0].shard, "y.safetensors");
    assert_int_equal(x.n_shards, 2);
    assert_string_equal(x.shards[0], "x.safetensors");
    assert_string_equal(x.shards[1], "y.safetensors");
    ws_hf_index_free(&x);
}

static void long_names_are_refused(void **state)
{
    (void)state;
    for (int tensor = 0; tensor < 2; tensor++) {
        ws_buf b = { 0 };
        ws_buf_puts(&b, "{\"weight_map\":{\"");
        for (int i = 0; i < (tensor ? 4097 : 1); i++)
            ws_buf_putc(&b, 'n');
        ws_buf_puts(&b, "\":\"");
        for (int i = 0; i < (tensor ? 1 : 244); i++)
            ws_buf_putc(&b, 'f');
        ws_buf_puts(&b, ".safetensors\"}}");
        ws_hf_index x = { 0 };
        ws_err err = WS_ERR_INIT;
        assert_int_equal(ws_hf_index_parse(&x, b.p, b.n, ".safetensors", &err),
                         WS_E_HEADER);
        assert_non_null(
            strstr(err.msg, tensor ? "tensor name is longer than 4096 bytes"
                                   : ".safetensors' of the index is too long"));
        ws_buf_free(&b);
    }
}

/* ---- directories ---- */

static void shards_open_as_one_model(void **state)
{
    (void)state;
    put_index(GOOD_MAP,
              "{\"total_size\":3,\"wsurg.kind\":\"model\",\"n\":1,\"by\":\"x\"}");
    put_shard(X, "ac");
    put_shard(Y, "b");
    put_text("config.json", "{\"model_type\":\"llama\"}\n");
    ws_diag warnings = { 0 };
    ws_ckpt *c = open_good(&warnings);
    assert_int_equal(warnings.n, 0);
    assert_true(ws_ckpt_is_dir(c));
    assert_string_equal(ws_ckpt_format(c), "safetensors-sharded");
    assert_string_equal(ws_ckpt_label(c), dir + strlen("/tmp/"));
    assert_int_equal(ws_ckpt_file_count(c), 2);
    assert_string_equal(ws_ckpt_file_at(c, 1)->name, Y);
    assert_string_equal(ws_ckpt_file_at(c, 1)->path, in_dir(Y));
    static const char *const order[] = { "a", "c", "b" };
    ws_err err = WS_ERR_INIT;
    assert_int_equal(ws_ckpt_count(c), 3);
    for (size_t i = 0; i < 3; i++) {
        char byte;
        assert_string_equal(ws_ckpt_tensor(c, i)->name, order[i]);
        assert_ok(ws_ckpt_read(c, ws_ckpt_tensor(c, i), 0, 1, &byte, &err), err);
        assert_int_equal(byte, order[i][0]);
    }
    assert_int_equal(ws_ckpt_find(c, "b")->file, 1);
    assert_int_equal(ws_ckpt_meta_count(c), 2); // strings of the index only
    assert_string_equal(ws_ckpt_meta(c, "by"), "x");
    assert_null(ws_ckpt_meta(c, "format"));
    size_t len = 0;
    assert_string_equal(ws_ckpt_config(c, &len), "{\"model_type\":\"llama\"}\n");
    assert_int_equal(len, 23);
    assert_ok(ws_ckpt_recheck(c, &err), err);
    ws_ckpt_free(c);
}

static void single_file_opens_without_an_index(void **state)
{
    (void)state;
    put_shard("model.safetensors", "ab");
    put_text("pytorch_model.bin", "never looked at");
    ws_ckpt *c = open_good(NULL);
    size_t len = 0;
    assert_string_equal(ws_ckpt_format(c), "safetensors");
    assert_string_equal(ws_ckpt_meta(c, "format"), "pt");
    assert_null(ws_ckpt_config(c, &len));
    ws_ckpt_free(c);
}

static void directory_path_may_end_in_slashes_or_be_a_dot(void **state)
{
    (void)state;
    char path[128], old[1024];
    ws_ckpt *c = NULL;
    ws_err err = WS_ERR_INIT;
    put_shard("model.safetensors", "a");
    snprintf(path, sizeof path, "%s//", dir);
    assert_ok(ws_ckpt_open(&c, path, NULL, &err), err);
    assert_string_equal(ws_ckpt_label(c), dir + strlen("/tmp/"));
    assert_string_equal(ws_ckpt_path(c), path);
    ws_ckpt_free(c);
    assert_non_null(getcwd(old, sizeof old));
    assert_int_equal(chdir(dir), 0);
    assert_ok(ws_ckpt_open(&c, ".", NULL, &err), err);
    assert_int_equal(chdir(old), 0);
    assert_string_equal(ws_ckpt_label(c), dir + strlen("/tmp/"));
    ws_ckpt_free(c);
}

static void single_file_beside_an_index_is_refused(void **state)
{
    (void)state;
    ws_err err;
    put_good();
    put_shard("model.safetensors", "abc");
    open_bad(WS_E_HEADER,
             "directory holds both 'model.safetensors' and "
             "'model.safetensors.index.json': readers disagree which counts",
             &err);
    assert_string_equal(err.hint, "remove one of them, or name the file itself");
    assert_string_equal(err.path, dir);
}

static void missing_shard_is_named(void **state)
{
    (void)state;
    ws_err err;
    put_good();
    unlink(in_dir(Y));
    open_bad(WS_E_MISSING, "shard '" Y "' of the index is not there", &err);
    assert_string_equal(err.path, in_dir(Y));
    assert_int_equal(symlink("../blobs/gone", in_dir(Y)), 0); // as in the hub's cache
    open_bad(WS_E_MISSING, "shard '" Y "' of the index is not there", &err);
}

static void extra_shard_is_warned_about(void **state)
{
    (void)state;
    put_good();
    put_shard("model-00003-of-00003.safetensors", "z");
    put_shard("other.safetensors", "z");
    ws_diag warnings = { 0 };
    ws_ckpt *c = open_good(&warnings);
    assert_int_equal(ws_ckpt_count(c), 3);
    assert_int_equal(warnings.n, 1);
    assert_string_equal(warnings.items[0].tag, "stray-shard");
    assert_string_equal(warnings.items[0].msg,
                        "shard 'model-00003-of-00003.safetensors' is not in the index "
                        "and is not read (1 such files)");
    ws_ckpt_free(c);
    ws_diag_free(&warnings);
}

static void tensor_in_another_shard_is_refused(void **state)
{
    (void)state;
    ws_err err;
    put_good();
    put_shard(X, "a");
    put_shard(Y, "bc");
    open_bad(WS_E_HEADER, "tensor stands in shard '" Y "', the index says '" X "'",
             &err);
    assert_string_equal(err.tensor, "c");
    assert_string_equal(err.path, in_dir(INDEX));
}

static void tensor_in_two_shards_is_refused(void **state)
{
    (void)state;
    ws_err err;
    put_good();
    put_shard(Y, "ba");
    open_bad(WS_E_HEADER, "tensor stands in two shards, '" X "' and '" Y "'", &err);
    assert_string_equal(err.tensor, "a");
    assert_string_equal(err.path, in_dir(Y));
}

static void tensor_only_in_the_index_is_missing(void **state)
{
    (void)state;
    ws_err err;
    put_good();
    put_shard(X, "a");
    open_bad(WS_E_MISSING, "tensor stands in the index but not in its shard '" X "'",
             &err);
    assert_string_equal(err.tensor, "c");
}

static void tensor_only_in_a_shard_is_refused(void **state)
{
    (void)state;
    ws_err err;
    put_good();
    put_shard(Y, "bxy");
    open_bad(WS_E_HEADER,
             "tensor stands in shard '" Y "' but not in the index (2 such tensors)",
             &err);
    assert_string_equal(err.tensor, "x");
}

static void wrong_total_size_is_a_warning(void **state)
{
    (void)state;
    static const char *const sizes[] = { "{\"total_size\":4}", "{\"total_size\":3.5}",
                                         "{\"total_size\":\"3\"}",
                                         "{\"total_size\":null}" };
    static const char *const fine[] = { "{\"total_size\":3}", "{\"total_size\":3.0}",
                                        "{}", "null" };
    for (size_t i = 0; i < 4; i++) {
        ws_diag warnings = { 0 };
        put_good();
        put_index(GOOD_MAP, sizes[i]);
        ws_ckpt_free(open_good(&warnings));
        assert_int_equal(warnings.n, 1);
        assert_string_equal(warnings.items[0].tag, "total-size");
        assert_string_equal(
            warnings.items[0].msg,
            "total_size of the index is not the 3 bytes of its tensors");
        assert_string_equal(warnings.items[0].path, in_dir(INDEX));
        ws_diag_free(&warnings);
        put_index(GOOD_MAP, fine[i]);
        ws_ckpt_free(open_good(&warnings));
        assert_int_equal(warnings.n, 0);
    }
}

static void broken_shard_is_named(void **state)
{
    (void)state;
    ws_err err;
    put_good();
    put_text(Y, "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n");
    open_bad(WS_E_HEADER, "file is a Git-LFS pointer, not the weights", &err);
    assert_string_equal(err.path, in_dir(Y));
    put_text(INDEX, "version https://git-lfs.github.com/spec/v1\noid sha256:0\n");
    open_bad(WS_E_HEADER, "file is a Git-LFS pointer, not the weights", &err);
    assert_string_equal(err.path, in_dir(INDEX));
}

static void directories_without_safetensors_say_what_they_hold(void **state)
{
    (void)state;
    static const struct {
        const char *files[2];
        ws_status status;
        const char *says;
    } cases[] = {
        { { "config.json" },
          WS_E_MISSING,
          "directory holds no 'model.safetensors' and no "
          "'model.safetensors.index.json'" },
        { { "training_args.bin", "weights.pt" },
          WS_E_UNSUPPORTED,
          "directory holds 'training_args.bin', but no 'pytorch_model.bin' and no "
          "index of either format" },
        { { "pytorch_model.bin", "pytorch_model.bin.index.json" },
          WS_E_HEADER,
          "directory holds both 'pytorch_model.bin' and "
          "'pytorch_model.bin.index.json': readers disagree which counts" },
        { { "model-q4.gguf" },
          WS_E_UNSUPPORTED,
          "directory holds only GGUF weights ('model-q4.gguf')" },
        { { "adapter_config.json", "adapter_model.safetensors" },
          WS_E_UNSUPPORTED,
          "adapters: directory holds an adapter, not a model" },
        { { X, Y },
          WS_E_MISSING,
          "directory holds shard '" X "' but no index '" INDEX "'" },
        { { "model.fp16.safetensors", "pytorch_model.bin" },
          WS_E_MISSING,
          "directory holds 'model.fp16.safetensors' but no 'model.safetensors' and no "
          "index" },
        { { "model.safetensors.incomplete" },
          WS_E_HEADER,
          "directory holds a download that has not finished: "
          "'model.safetensors.incomplete'" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ws_err err;
        for (size_t k = 0; k < 2 && cases[i].files[k] != NULL; k++)
            put_text(cases[i].files[k], "");
        open_bad(cases[i].status, cases[i].says, &err);
        assert_string_equal(err.path, dir);
        clean();
    }
}

static void adapter_beside_a_model_is_warned_about(void **state)
{
    (void)state;
    put_shard("model.safetensors", "a");
    put_text("adapter_config.json", "{}");
    ws_diag warnings = { 0 };
    ws_ckpt_free(open_good(&warnings));
    assert_int_equal(warnings.n, 1);
    assert_string_equal(warnings.items[0].tag, "adapter-ignored");
    ws_diag_free(&warnings);
}

static void config_must_be_a_file_that_can_be_read(void **state)
{
    (void)state;
    ws_err err;
    put_shard("model.safetensors", "a");
    assert_int_equal(mkdir(in_dir("config.json"), 0700), 0);
    open_bad(WS_E_IO, "not a regular file", &err);
    assert_string_equal(err.path, in_dir("config.json"));
}

static void more_shards_than_descriptors_open_and_read(void **state)
{
    (void)state;
    enum { N = 100 };
    ws_buf map = { 0 };
    char name[64];
    for (int i = 0; i < N; i++) {
        // one letter per shard would not do: two tensors called by number
        snprintf(name, sizeof name, "model-%05d-of-%05d.safetensors", i + 1, N);
        ws_buf b = { 0 };
        ws_buf_add(&b, "\0\0\0\0\0\0\0\0", 8);
        ws_buf_printf(&b,
                      "{\"t%d\":{\"dtype\":\"U8\",\"shape\":[1],"
                      "\"data_offsets\":[0,1]}}",
                      i);
        b.p[0] = (char)(b.n - 8);
        ws_buf_putc(&b, (char)i);
        put(name, b.p, b.n);
        ws_buf_free(&b);
        ws_buf_printf(&map, "%c\"t%d\":\"%s\"", i == 0 ? '{' : ',', i, name);
    }
    ws_buf_putc(&map, '}');
    put_index(map.p, "{\"total_size\":100}");
    ws_buf_free(&map);

    struct rlimit old, low;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    low = old;
    low.rlim_cur = 64;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    ws_ckpt *c = open_good(NULL);
    ws_err err = WS_ERR_INIT;
    assert_int_equal(ws_ckpt_count(c), N);
    for (int i = 0; i < N; i++) {
        char byte;
        snprintf(name, sizeof name, "t%d", i);
        assert_ok(ws_ckpt_read(c, ws_ckpt_find(c, name), 0, 1, &byte, &err), err);
        assert_int_equal(byte, i);
    }
    // the last shard is opened again for each read, and compared
    char byte;
    const char *last = ws_ckpt_file_at(c, N - 1)->path;
    assert_int_equal(truncate(last, 3), 0);
    assert_int_equal(ws_ckpt_read(c, ws_ckpt_find(c, "t99"), 0, 1, &byte, &err),
                     WS_E_IO);
    assert_string_equal(err.msg, "file has changed since it was opened");
    assert_string_equal(err.tensor, "t99");
    ws_ckpt_free(c);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
}

static void every_failed_allocation_is_reported(void **state)
{
    (void)state;
    put_good();
    put_text("config.json", "{}");
    const long live = ws_alloc_live();
    ws_status st = WS_E_MEMORY;
    for (long n = 0; st != WS_OK; n++) {
        ws_ckpt *c = NULL;
        ws_err err = WS_ERR_INIT;
        ws_alloc_fail_after(n);
        st = ws_ckpt_open(&c, dir, NULL, &err);
        ws_alloc_fail_after(-1);
        assert_int_equal(err.code, st);
        assert_true(st == WS_OK ? n > 10 : st == WS_E_MEMORY);
        ws_ckpt_free(c);
        assert_int_equal(ws_alloc_live(), live);
    }
}

#define IN_DIR(test) cmocka_unit_test_teardown(test, clean_after)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors_get_their_verdict),
        cmocka_unit_test(shards_are_listed_once_in_byte_order),
        cmocka_unit_test(long_names_are_refused),
        IN_DIR(shards_open_as_one_model),
        IN_DIR(single_file_opens_without_an_index),
        IN_DIR(directory_path_may_end_in_slashes_or_be_a_dot),
        IN_DIR(single_file_beside_an_index_is_refused),
        IN_DIR(missing_shard_is_named),
        IN_DIR(extra_shard_is_warned_about),
        IN_DIR(tensor_in_another_shard_is_refused),
        IN_DIR(tensor_in_two_shards_is_refused),
        IN_DIR(tensor_only_in_the_index_is_missing),
        IN_DIR(tensor_only_in_a_shard_is_refused),
        IN_DIR(wrong_total_size_is_a_warning),
        IN_DIR(broken_shard_is_named),
        IN_DIR(directories_without_safetensors_say_what_they_hold),
        IN_DIR(adapter_beside_a_model_is_warned_about),
        IN_DIR(config_must_be_a_file_that_can_be_read),
        IN_DIR(more_shards_than_descriptors_open_and_read),
        IN_DIR(every_failed_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
