/*
 * test_stage.c - an output is absent or old, or whole and new, whenever the run dies
 */
#define _GNU_SOURCE

#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "ckpt/journal.h"
#include "ckpt/manifest_internal.h"
#include "ckpt/stage.h"
#include "ckpt/stage_manifest.h"
#include "temp_dir.h"
#include "wsurg/alloc.h"

static const char key[] = "0123456789abcdef0123456789abcdef";

enum { BLOCK = 512, BLOCKS = 6, DONE = 7 };

/** What byte @p i of the output is. */
static unsigned char byte_at(int file, size_t i)
{
    return (unsigned char)(i * 31 + i / BLOCK + (size_t)file * 101);
}

static ws_stage_opts opts(const char *target, bool is_dir)
{
    return (ws_stage_opts){ .target = target, .is_dir = is_dir, .key = key };
}

/* ---- a run like the engine's ---- */

struct work {
    bool done[2][BLOCKS];
    int n_done; // blocks that a resumed run did not write again
};

static ws_status recall(void *arg, uint32_t type, uint64_t a, uint64_t b,
                        const void *payload, size_t n, ws_err *err)
{
    struct work *w = arg;
    (void)err;
    assert_int_equal(type, DONE);
    assert_int_equal(n, 4);
    assert_memory_equal(payload, "done", 4);
    w->done[a][b] = true;
    w->n_done++;
    return WS_OK;
}

static ws_status write_blocks(ws_stage *s, const struct work *w, int file, int id,
                              ws_err *err)
{
    for (size_t k = 0; k < BLOCKS; k++) {
        unsigned char data[BLOCK];
        if (w->done[file][k])
            continue;
        for (size_t i = 0; i < BLOCK; i++)
            data[i] = byte_at(file, k * BLOCK + i);
        ws_status st = ws_stage_write(s, id, data, BLOCK, k * BLOCK, err);
        if (st == WS_OK)
            st = ws_stage_record(s, DONE, (uint64_t)file, k, "done", 4, err);
        if (st == WS_OK && k == 2)
            st = ws_stage_sync(s, err);
        if (st != WS_OK)
            return st;
    }
    return WS_OK;
}

/** All of a run but opening and closing. */
static ws_status run_steps(ws_stage *s, const char *target, bool is_dir, struct work *w,
                           ws_err *err)
{
    int ids[2];
    ws_manifest *m = NULL;
    ws_pool *pool = NULL;
    ws_status st = ws_stage_replay(s, recall, w, err);
    const int n = is_dir ? 2 : 1;
    const char *const names[] = { is_dir ? "a.bin" : "", "sub/b.bin" };
    for (int f = 0; st == WS_OK && f < n; f++)
        st = ws_stage_file(s, names[f], (uint64_t)BLOCK * BLOCKS, &ids[f], err);
    for (int f = 0; st == WS_OK && f < n; f++)
        st = write_blocks(s, w, f, ids[f], err);
    if (st == WS_OK && is_dir)
        st = ws_stage_put(s, "index.json", "{}\n", 3, err);
    if (st == WS_OK && is_dir)
        st = ws_stage_copy(s, "LICENSE", "licence.txt", err);
    if (st == WS_OK)
        st = ws_pool_new(&pool, 1, err);
    if (st == WS_OK)
        st = ws_manifest_from_stage(&m, s, pool, NULL, NULL, NULL, err);
    char *path = ws_stage_manifest_path(target, is_dir);
    if (st == WS_OK && path == NULL)
        st = ws_fail(err, WS_E_MEMORY, "no memory");
    if (st == WS_OK)
        st = ws_stage_commit(s, m, path, err);
    ws_free(path);
    ws_manifest_free(m);
    ws_pool_free(pool);
    return st;
}

static ws_status run(const ws_stage_opts *o, struct work *w, ws_err *err)
{
    ws_stage *s = NULL;
    ws_diag warnings = { 0 };
    ws_status st = ws_stage_open(&s, o, &warnings, err);
    if (st == WS_OK && !ws_stage_finished(s))
        st = run_steps(s, o->target, o->is_dir, w, err);
    ws_stage_close(s, false);
    ws_diag_free(&warnings);
    return st;
}

static bool file_is_new(const char *path, int file)
{
    size_t n;
    const char *got = slurp(path, &n);
    if (got == NULL || n != (size_t)BLOCK * BLOCKS)
        return false;
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)got[i] != byte_at(file, i))
            return false;
    return true;
}

static bool is_new(bool is_dir)
{
    if (!is_dir)
        return file_is_new("out.bin", 0);
    return file_is_new("out/a.bin", 0) && file_is_new("out/sub/b.bin", 1) &&
           there("out/index.json") && there("out/LICENSE") &&
           there("out/manifest.json");
}

/** Exactly what was there before: nothing, or the old output. */
static bool is_old(bool is_dir, bool force)
{
    if (!force)
        return !there(is_dir ? "out" : "out.bin");
    // without an exchange there is a moment with neither; the old one is not lost
    const bool aside = is_dir && ws_stage_has_plain_renames() && !there("out");
    const char *got = slurp(aside    ? ".out.wsurg/old/old.bin"
                            : is_dir ? "out/old.bin"
                                     : "out.bin",
                            NULL);
    return got != NULL && strcmp(got, "old") == 0;
}

static void assert_valid(const char *target)
{
    ws_err err = WS_ERR_INIT;
    ws_manifest *m = NULL;
    assert_ok(ws_manifest_read(&m, target, &err), err);
    assert_ok(ws_manifest_verify(m, NULL, &err), err);
    assert_true(m->valid);
    ws_manifest_free(m);
}

/** The old output, with the manifest that lets it be replaced. */
static void make_old(bool is_dir)
{
    ws_err err = WS_ERR_INIT;
    ws_manifest *m = NULL;
    size_t n;
    if (is_dir)
        mkdir("out", 0777);
    spit_text(is_dir ? "out/old.bin" : "out.bin", "old");
    assert_ok(ws_manifest_make(&m, is_dir ? "out" : "out.bin", NULL, &err), err);
    char *text = ws_manifest_text(m, &n);
    spit(m->path, text, n);
    ws_free(text);
    ws_manifest_free(m);
}

static void clean(void)
{
    ws_os_remove_tree("out", NULL);
    ws_os_remove_tree("out.bin", NULL);
    ws_os_remove_tree("out.bin.manifest.json", NULL);
    ws_os_remove_tree(".out.wsurg", NULL);
    ws_os_remove_tree(".out.bin.wsurg", NULL);
}

/** Run in a child that is killed before step n; true when it came to its end. */
static bool run_killed(const ws_stage_opts *o, long n)
{
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct work w = { 0 };
        ws_err err = WS_ERR_INIT;
        ws_stage_kill_after(n);
        const ws_status st = run(o, &w, &err);
        _exit(st == WS_OK ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status))
        assert_int_equal(WEXITSTATUS(status), 0);
    else
        assert_int_equal(WTERMSIG(status), SIGKILL);
    return WIFEXITED(status);
}

/** Kill at every step; after each, look, finish by @p resume or anew, look again. */
static void kill_everywhere(bool is_dir, bool force, bool resume)
{
    ws_stage_opts o = opts(is_dir ? "out" : "out.bin", is_dir);
    o.force = force;
    int resumed = 0;
    spit_text("licence.txt", "free");
    for (long n = 0;; n++) {
        clean();
        if (force)
            make_old(is_dir);
        if (run_killed(&o, n))
            break;
        assert_true(n < 1000);
        const bool appeared = is_new(is_dir);
        assert_true(appeared || is_old(is_dir, force));
        ws_err err = WS_ERR_INIT;
        struct work w = { 0 };
        ws_stage_opts again = o;
        again.resume = resume;
        if (appeared && !resume && !force) {
            assert_int_equal(run(&again, &w, &err), WS_E_EXISTS);
            again.resume = true; // rolls forward what is left: the manifest
        }
        const ws_status st = run(&again, &w, &err);
        // killed when nothing but the folder was left: the output is there and whole
        if (!(appeared && !force && st == WS_E_EXISTS))
            assert_ok(st, err);
        assert_true(is_new(is_dir));
        assert_false(there(is_dir ? ".out.wsurg" : ".out.bin.wsurg"));
        assert_false(there("out/old.bin"));
        assert_valid(o.target);
        resumed += w.n_done > 0;
        if (!resume)
            assert_int_equal(w.n_done, 0);
    }
    assert_true(is_new(is_dir));
    if (resume)
        assert_true(resumed > BLOCKS);
}

static void killed_file_is_absent_or_whole_and_resumes(void **state)
{
    (void)state;
    kill_everywhere(false, false, true);
}

static void killed_file_is_absent_or_whole_and_starts_anew(void **state)
{
    (void)state;
    kill_everywhere(false, false, false);
}

static void killed_file_under_force_is_old_or_new(void **state)
{
    (void)state;
    kill_everywhere(false, true, true);
    kill_everywhere(false, true, false);
}

static void killed_directory_is_absent_or_whole_and_resumes(void **state)
{
    (void)state;
    kill_everywhere(true, false, true);
}

static void killed_directory_under_force_is_old_or_new(void **state)
{
    (void)state;
    kill_everywhere(true, true, true);
    kill_everywhere(true, true, false);
}

static void killed_without_the_kernel_s_renames_nothing_is_lost(void **state)
{
    (void)state;
    ws_stage_plain_renames(true);
    kill_everywhere(false, false, true);
    kill_everywhere(false, true, true);
    kill_everywhere(true, false, true);
    kill_everywhere(true, true, true);
    kill_everywhere(true, true, false);
    ws_stage_plain_renames(false);
}

static void old_directory_comes_back_for_a_run_without_force(void **state)
{
    (void)state;
    ws_stage_opts o = opts("out", true);
    o.force = true;
    spit_text("licence.txt", "free");
    ws_stage_plain_renames(true);
    bool seen = false;
    for (long n = 0; !seen; n++) {
        clean();
        make_old(true);
        assert_false(run_killed(&o, n));
        seen = !there("out");
    }
    ws_stage_plain_renames(false);
    ws_err err = WS_ERR_INIT;
    struct work w = { 0 };
    o.force = false;
    assert_int_equal(run(&o, &w, &err), WS_E_EXISTS);
    assert_file("out/old.bin", "old");
}

/** Killed while it resumes, again and again, it still ends. */
static void killed_resume_goes_on(void **state)
{
    (void)state;
    ws_stage_opts o = opts("out", true);
    o.resume = true;
    spit_text("licence.txt", "free");
    long runs = 0;
    for (long n = 8; !run_killed(&o, n); n += 2, runs++)
        assert_true(is_new(true) || is_old(true, false));
    assert_true(runs > 3);
    assert_true(is_new(true));
    assert_valid("out");
    assert_false(there(".out.wsurg"));
}

/* ---- what is refused ---- */

static void assert_refused(const ws_stage_opts *o, ws_status want, const char *msg)
{
    ws_err err = WS_ERR_INIT;
    ws_stage *s = NULL;
    assert_int_equal(ws_stage_open(&s, o, NULL, &err), want);
    assert_null(s);
    assert_string_equal(err.msg, msg);
}

static void existing_output_is_refused_and_not_touched(void **state)
{
    (void)state;
    ws_stage_opts o = opts("out.bin", false);
    spit_text("out.bin", "old");
    assert_refused(&o, WS_E_EXISTS, "output 'out.bin' exists");
    o.resume = true;
    assert_refused(&o, WS_E_EXISTS, "output 'out.bin' exists");
    assert_file("out.bin", "old");
    assert_false(there(".out.bin.wsurg"));
    assert_int_equal(symlink("nowhere", "link.bin"), 0);
    o = opts("link.bin", false);
    assert_refused(&o, WS_E_EXISTS, "output 'link.bin' exists");
}

static void input_is_never_replaced(void **state)
{
    (void)state;
    assert_int_equal(mkdir("m", 0777), 0);
    spit_text("m/a.st", "x");
    assert_int_equal(link("m/a.st", "hard.st"), 0);
    assert_int_equal(symlink("m/a.st", "soft.st"), 0);
    const char *const file[] = { "m/a.st" };
    const char *const dir[] = { "m/" };
    ws_stage_opts o = opts("m/a.st", false);
    o.force = true;
    o.inputs = file;
    o.n_inputs = 1;
    assert_refused(&o, WS_E_EXISTS, "output 'm/a.st' is the input 'm/a.st'");
    o.target = "hard.st";
    assert_refused(&o, WS_E_EXISTS, "output 'hard.st' is the input 'm/a.st'");
    o.target = "soft.st";
    assert_refused(&o, WS_E_EXISTS, "output 'soft.st' is the input 'm/a.st'");
    o.target = "m";
    o.is_dir = true;
    assert_refused(&o, WS_E_EXISTS, "output 'm' holds the input 'm/a.st'");
    o.inputs = dir;
    assert_refused(&o, WS_E_EXISTS, "output 'm' is the input 'm/'");
    o.target = "m/new";
    assert_refused(&o, WS_E_EXISTS, "output 'm/new' lies inside the input 'm/'");
    assert_file("m/a.st", "x");
}

static void link_to_an_input_inside_the_target_counts(void **state)
{
    (void)state;
    assert_int_equal(mkdir("out", 0777), 0);
    spit_text("blob", "x");
    assert_int_equal(symlink("../blob", "out/a.st"), 0);
    const char *const inputs[] = { "out/a.st" };
    ws_stage_opts o = opts("out", true);
    o.force = true;
    o.inputs = inputs;
    o.n_inputs = 1;
    assert_refused(&o, WS_E_EXISTS, "output 'out' holds the input 'out/a.st'");
}

static void names_of_nothing_are_refused(void **state)
{
    (void)state;
    ws_stage_opts o = opts("/", true);
    assert_refused(&o, WS_E_USAGE, "output '/' names no file or directory");
    o.target = "..";
    assert_refused(&o, WS_E_USAGE, "output '..' names no file or directory");
    o.target = "";
    assert_refused(&o, WS_E_USAGE, "output '' names no file or directory");
    o.target = "no/where";
    assert_refused(&o, WS_E_IO,
                   "cannot open the output's folder 'no': No such file or directory");
}

static void live_run_holds_the_lock(void **state)
{
    (void)state;
    ws_err err = WS_ERR_INIT;
    ws_stage *s = NULL;
    ws_stage_opts o = opts("out.bin", false);
    assert_ok(ws_stage_open(&s, &o, NULL, &err), err);
    assert_refused(&o, WS_E_LOCKED, "output 'out.bin' is being written by another run");
    o.resume = true;
    assert_refused(&o, WS_E_LOCKED, "output 'out.bin' is being written by another run");
    assert_true(there(".out.bin.wsurg/journal"));
    ws_stage_close(s, false);
    assert_false(there(".out.bin.wsurg"));
}

static void force_replaces_only_a_directory_of_listed_files(void **state)
{
    (void)state;
    ws_stage_opts o = opts("out", true);
    o.force = true;
    assert_int_equal(mkdir("out", 0777), 0);
    assert_int_equal(mkdir("out/sub", 0777), 0);
    spit_text("out/sub/notes.txt", "precious");
    assert_refused(
        &o, WS_E_EXISTS,
        "output 'out' holds 'sub/notes.txt', which its manifest does not list");
    ws_os_remove_tree("out", NULL);
    make_old(true);
    spit_text("out/sub.txt", "precious");
    assert_refused(&o, WS_E_EXISTS,
                   "output 'out' holds 'sub.txt', which its manifest does not list");
    assert_file("out/sub.txt", "precious");
    assert_int_equal(unlink("out/sub.txt"), 0);
    ws_err err = WS_ERR_INIT;
    struct work w = { 0 };
    spit_text("licence.txt", "free");
    assert_ok(run(&o, &w, &err), err);
    assert_true(is_new(true));
    assert_false(there("out/old.bin"));
}

static void force_replaces_an_empty_directory(void **state)
{
    (void)state;
    ws_err err = WS_ERR_INIT;
    struct work w = { 0 };
    ws_stage_opts o = opts("out/", true);
    o.force = true;
    spit_text("licence.txt", "free");
    assert_int_equal(mkdir("out", 0777), 0);
    assert_ok(run(&o, &w, &err), err);
    assert_true(is_new(true));
}

static void force_does_not_change_kinds(void **state)
{
    (void)state;
    ws_stage_opts o = opts("x", false);
    o.force = true;
    assert_int_equal(mkdir("x", 0777), 0);
    assert_refused(&o, WS_E_EXISTS,
                   "output 'x' is a directory, but one file is written");
    assert_int_equal(rmdir("x"), 0);
    spit_text("x", "old");
    o.is_dir = true;
    assert_refused(&o, WS_E_EXISTS, "output 'x' is a file, but a directory is written");
    assert_int_equal(unlink("x"), 0);
    assert_int_equal(mkfifo("x", 0666), 0);
    o.is_dir = false;
    assert_refused(&o, WS_E_EXISTS, "output 'x' is neither a file nor a directory");
    assert_int_equal(symlink("x", "y"), 0);
    o.target = "y";
    assert_refused(&o, WS_E_EXISTS, "output 'y' is neither a file nor a directory");
}

static void manifest_place_is_checked_early(void **state)
{
    (void)state;
    spit_text("notes.json", "{}");
    spit_text("a.st", "x");
    const char *const inputs[] = { "a.st" };
    ws_stage_opts o = opts("out.bin", false);
    o.inputs = inputs;
    o.n_inputs = 1;
    o.manifest = "notes.json";
    assert_refused(&o, WS_E_EXISTS, "'notes.json' exists and is no manifest");
    o.manifest = "a.st";
    assert_refused(&o, WS_E_EXISTS, "manifest 'a.st' is the input 'a.st'");
}

/* ---- details of what appears ---- */

static void link_at_the_target_is_replaced_itself(void **state)
{
    (void)state;
    ws_err err = WS_ERR_INIT;
    struct work w = { 0 };
    spit_text("blob", "shared");
    assert_int_equal(symlink("blob", "out.bin"), 0);
    ws_stage_opts o = opts("out.bin", false);
    o.force = true;
    assert_ok(run(&o, &w, &err), err);
    struct stat sb;
    assert_int_equal(lstat("out.bin", &sb), 0);
    assert_true(S_ISREG(sb.st_mode));
    assert_file("blob", "shared");
    assert_true(is_new(false));
}

static void modes_follow_the_umask(void **state)
{
    (void)state;
    ws_err err = WS_ERR_INIT;
    struct work w = { 0 };
    struct stat sb;
    ws_stage_opts o = opts("out", true);
    spit_text("licence.txt", "free");
    assert_int_equal(chmod("licence.txt", 0400), 0);
    const mode_t old = umask(027);
    const ws_status st = run(&o, &w, &err);
    umask(old);
    assert_ok(st, err);
    assert_int_equal(stat("out", &sb), 0);
    assert_int_equal(sb.st_mode & 07777, 0750);
    const char *const files[] = { "out/a.bin", "out/LICENSE", "out/manifest.json" };
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(stat(files[i], &sb), 0);
        assert_int_equal(sb.st_mode & 07777, 0640);
    }
}

static void stale_manifest_does_not_stay(void **state)
{
    (void)state;
    ws_err err = WS_ERR_INIT;
    ws_stage *s = NULL;
    int id;
    make_old(false);
    ws_stage_opts o = opts("out.bin", false);
    o.force = true;
    assert_ok(ws_stage_open(&s, &o, NULL, &err), err);
    assert_ok(ws_stage_file(s, "", 3, &id, &err), err);
    assert_ok(ws_stage_write(s, id, "new", 3, 0, &err), err);
    assert_ok(ws_stage_commit(s, NULL, NULL, &err), err);
    ws_stage_close(s, false);
    assert_file("out.bin", "new");
    assert_false(there("out.bin.manifest.json"));
    assert_false(there(".out.bin.wsurg"));
}

static void manifest_goes_where_it_is_told(void **state)
{
    (void)state;
    ws_err err = WS_ERR_INIT;
    ws_stage *s = NULL;
    int id;
    assert_int_equal(mkdir("else", 0777), 0);
    for (int is_dir = 0; is_dir < 2; is_dir++) {
        ws_stage_opts o = opts(is_dir ? "out" : "out.bin", is_dir);
        ws_manifest *m = ws_manifest_new("unused");
        ws_manifest_file f = { .path = test_malloc(2), .bytes = 3 };
        memcpy(f.path, "f", 2);
        assert_ok(ws_manifest_add(m, &f, &err), err);
        assert_ok(ws_stage_open(&s, &o, NULL, &err), err);
        assert_ok(ws_stage_file(s, is_dir ? "f" : "", 3, &id, &err), err);
        const char *path = is_dir ? "else/dir.json" : "else/file.json";
        assert_ok(ws_stage_commit(s, m, path, &err), err);
        ws_stage_close(s, false);
        assert_file(path, "{\n  \"schema\": \"wsurg-manifest/1\",\n"
                          "  \"content\": null,\n  \"files\": [\n"
                          "    {\"path\": \"f\", \"bytes\": 3, \"sha256\": \"\", "
                          "\"xxh3\": \"\"}\n  ]\n}\n");
        ws_manifest_free(m);
        test_free(f.path);
    }
    assert_false(there("out.bin.manifest.json"));
    assert_false(there("out/manifest.json"));
}

static void output_that_appears_meanwhile_wins(void **state)
{
    (void)state;
    ws_err err = WS_ERR_INIT;
    ws_stage *s = NULL;
    int id;
    ws_stage_opts o = opts("out.bin", false);
    assert_ok(ws_stage_open(&s, &o, NULL, &err), err);
    assert_ok(ws_stage_file(s, "", 3, &id, &err), err);
    spit_text("out.bin", "theirs");
    assert_int_equal(ws_stage_commit(s, NULL, NULL, &err), WS_E_EXISTS);
    assert_string_equal(err.msg, "output 'out.bin' exists");
    ws_stage_close(s, false);
    assert_file("out.bin", "theirs");
    assert_false(there(".out.bin.wsurg"));
}

static void leave(const char *name_key, int blocks)
{
    ws_err err = WS_ERR_INIT;
    ws_stage *s = NULL;
    int id;
    ws_stage_opts o = opts("out.bin", false);
    o.key = name_key;
    assert_ok(ws_stage_open(&s, &o, NULL, &err), err);
    assert_ok(ws_stage_file(s, "", (uint64_t)BLOCK * BLOCKS, &id, &err), err);
    for (int k = 0; k < blocks; k++)
        assert_ok(ws_stage_record(s, DONE, 0, (uint64_t)k, "done", 4, &err), err);
    ws_stage_close(s, true);
    assert_true(there(".out.bin.wsurg/journal"));
}

static void assert_open_notes(bool resume, bool resumed, const char *note)
{
    ws_err err = WS_ERR_INIT;
    ws_diag warnings = { 0 };
    ws_stage *s = NULL;
    ws_stage_opts o = opts("out.bin", false);
    o.resume = resume;
    assert_ok(ws_stage_open(&s, &o, &warnings, &err), err);
    assert_int_equal(ws_stage_resumed(s), resumed);
    assert_int_equal(warnings.n, note == NULL ? 0 : 1);
    if (note != NULL) {
        assert_string_equal(warnings.items[0].msg, note);
        assert_string_equal(warnings.items[0].tag, "note");
        assert_int_equal(warnings.items[0].code, WS_OK);
    }
    ws_stage_close(s, false);
    ws_diag_free(&warnings);
}

static void dead_work_is_discarded_with_a_note(void **state)
{
    (void)state;
    leave(key, 2);
    assert_open_notes(false, false,
                      "unfinished work of an earlier run for 'out.bin' is discarded");
    leave("ffffffffffffffffffffffffffffffff", 2);
    assert_open_notes(true, false,
                      "work of an earlier run for 'out.bin' is discarded: it was "
                      "another's, of other inputs or options");
    leave(key, 2);
    assert_open_notes(true, true, NULL);
    assert_open_notes(true, false, NULL);
}

static void work_that_changed_is_not_gone_on_from(void **state)
{
    (void)state;
    leave(key, 2);
    assert_int_equal(truncate(".out.bin.wsurg/out", BLOCK), 0);
    assert_open_notes(true, false,
                      "work of an earlier run for 'out.bin' is discarded: it was "
                      "another's, of other inputs or options");
    leave(key, 2);
    assert_int_equal(rename(".out.bin.wsurg/out", "kept"), 0);
    const char zeros[BLOCK * BLOCKS] = { 0 };
    spit(".out.bin.wsurg/out", zeros, sizeof zeros); // same size, another file
    assert_open_notes(true, false,
                      "work of an earlier run for 'out.bin' is discarded: it was "
                      "another's, of other inputs or options");
}

static void unsafe_names_are_our_mistake(void **state)
{
    (void)state;
    ws_err err = WS_ERR_INIT;
    ws_stage *s = NULL;
    int id;
    ws_stage_opts o = opts("out", true);
    assert_ok(ws_stage_open(&s, &o, NULL, &err), err);
    static const char *const names[] = { "",     "/x", "../x", "a/../x",
                                         "a//x", ".",  "a/",   "a\nb" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        assert_int_equal(ws_stage_file(s, names[i], 1, &id, &err), WS_E_INTERNAL);
    assert_int_equal(ws_stage_put(s, "../x", "x", 1, &err), WS_E_INTERNAL);
    assert_string_equal(err.msg, "'../x' is no name for a file of 'out'");
    ws_stage_close(s, false);
    assert_false(there("x"));
}

static void staged_bytes_go_to_a_descriptor(void **state)
{
    (void)state;
    ws_err err = WS_ERR_INIT;
    ws_stage *s = NULL;
    int id;
    ws_stage_opts o = opts("out.bin", false);
    assert_ok(ws_stage_open(&s, &o, NULL, &err), err);
    assert_ok(ws_stage_file(s, "", 5, &id, &err), err);
    assert_ok(ws_stage_write(s, id, "bytes", 5, 0, &err), err);
    const int fd = open("copy", O_WRONLY | O_CREAT, 0666);
    assert_ok(ws_stage_emit(s, fd, NULL, &err), err);
    close(fd);
    ws_stage_close(s, false);
    assert_file("copy", "bytes");
    assert_false(there("out.bin"));
    assert_false(there(".out.bin.wsurg"));
}

/* ---- disks that fill ---- */

static void file_size_limit_is_an_io_error_and_old_stays(void **state)
{
    (void)state;
    make_old(false);
    const pid_t pid = fork();
    if (pid == 0) {
        ws_err err = WS_ERR_INIT;
        struct work w = { 0 };
        const struct rlimit limit = { BLOCK, BLOCK };
        ws_stage_opts o = opts("out.bin", false);
        o.force = true;
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &limit);
        const bool ok = run(&o, &w, &err) == WS_E_IO &&
                        strcmp(err.msg, "cannot grow: File too large") == 0 &&
                        strcmp(err.path, "out.bin") == 0;
        _exit(ok ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_file("out.bin", "old");
    assert_false(there(".out.bin.wsurg"));
    assert_valid("out.bin");
}

/** In the child: a run on a tmpfs of 64 KiB. Exit 77 where none can be mounted. */
static void run_on_full_disk(void)
{
    ws_err err = WS_ERR_INIT;
    ws_stage *s = NULL;
    int id;
    static char data[128 << 10];
    const uid_t uid = getuid();
    if (unshare(CLONE_NEWNS) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0)
        _exit(77);
    (void)uid;
    if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mkdir("disk", 0777) != 0 ||
        mount("none", "disk", "tmpfs", 0, "size=64k") != 0 || chdir("disk") != 0)
        _exit(77);
    spit_text("out.bin", "old");
    ws_stage_opts o = opts("out.bin", false);
    o.force = true;
    bool ok = ws_stage_open(&s, &o, NULL, &err) == WS_OK &&
              ws_stage_file(s, "", sizeof data, &id, &err) == WS_OK &&
              ws_stage_write(s, id, data, sizeof data, 0, &err) == WS_E_IO;
    ok = ok && strcmp(err.msg, "cannot write: No space left on device") == 0;
    ws_stage_close(s, false);
    ok = ok && !there(".out.bin.wsurg");
    const char *old = slurp("out.bin", NULL);
    _exit(ok && old != NULL && strcmp(old, "old") == 0 ? 0 : 1);
}

static void full_disk_is_an_io_error_and_old_stays(void **state)
{
    (void)state;
    const pid_t pid = fork();
    if (pid == 0)
        run_on_full_disk();
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77)
        skip();
    assert_int_equal(WEXITSTATUS(status), 0);
}

/** Every allocation of a run fails once: no leak, no output, a second run works. */
static void each_failed_allocation_leaves_nothing(void **state)
{
    (void)state;
    spit_text("licence.txt", "free");
    for (long n = 0;; n++) {
        ws_err err = WS_ERR_INIT;
        struct work w = { 0 };
        ws_stage_opts o = opts("out", true);
        const long live = ws_alloc_live();
        ws_alloc_fail_after(n);
        const ws_status st = run(&o, &w, &err);
        ws_alloc_fail_after(-1);
        assert_int_equal(ws_alloc_live(), live);
        assert_false(there(".out.wsurg"));
        if (st == WS_OK)
            break;
        assert_int_equal(st, WS_E_MEMORY);
        assert_false(there("out"));
        assert_true(n < 1000);
    }
    assert_true(is_new(true));
}

#define T(f) cmocka_unit_test_setup_teardown(f, temp_setup, temp_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(killed_file_is_absent_or_whole_and_resumes),
        T(killed_file_is_absent_or_whole_and_starts_anew),
        T(killed_file_under_force_is_old_or_new),
        T(killed_directory_is_absent_or_whole_and_resumes),
        T(killed_directory_under_force_is_old_or_new),
        T(killed_without_the_kernel_s_renames_nothing_is_lost),
        T(old_directory_comes_back_for_a_run_without_force),
        T(killed_resume_goes_on),
        T(existing_output_is_refused_and_not_touched),
        T(input_is_never_replaced),
        T(link_to_an_input_inside_the_target_counts),
        T(names_of_nothing_are_refused),
        T(live_run_holds_the_lock),
        T(force_replaces_only_a_directory_of_listed_files),
        T(force_replaces_an_empty_directory),
        T(force_does_not_change_kinds),
        T(manifest_place_is_checked_early),
        T(link_at_the_target_is_replaced_itself),
        T(modes_follow_the_umask),
        T(stale_manifest_does_not_stay),
        T(manifest_goes_where_it_is_told),
        T(output_that_appears_meanwhile_wins),
        T(dead_work_is_discarded_with_a_note),
        T(work_that_changed_is_not_gone_on_from),
        T(unsafe_names_are_our_mistake),
        T(staged_bytes_go_to_a_descriptor),
        T(file_size_limit_is_an_io_error_and_old_stays),
        T(full_disk_is_an_io_error_and_old_stays),
        T(each_failed_allocation_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
