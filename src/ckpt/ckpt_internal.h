/*
 * ckpt_internal.h - how a reader builds a checkpoint
 *
 * A reader makes one with ws_ckpt_new(), adds files, tensors and metadata in any order,
 * and calls ws_ckpt_finish(), which sorts them and builds the name table. Where tensors
 * are byte ranges of the added files that is all; a reader whose tensors are computed
 * (sparse task vectors, adapters on a base, compressed formats) passes its own ops.
 */
#ifndef WS_CKPT_INTERNAL_H
#define WS_CKPT_INTERNAL_H

#include "ckpt/st_write.h"
#include "wsurg/alloc.h"
#include "wsurg/ckpt.h"

/** File index of a tensor that is not a byte range of one file. Its offset is then the
 * reader's own key, and decides the order among such tensors. */
#define WS_NO_FILE UINT32_MAX

/** What a reader with computed tensors provides. */
typedef struct ws_ckpt_ops {
    /** As ws_ckpt_read(); thread-safe, @p len > 0, range checked. */
    ws_status (*read)(const ws_ckpt *c, const ws_tensor *t, uint64_t offset, size_t len,
                      void *dst, ws_err *err);
    /** Free the reader's own state. May be NULL. */
    void (*close)(void *self);
    /** As ws_ckpt_recheck(), for what the reader reads beside the files of @p c. May be
     * NULL. */
    ws_status (*recheck)(const ws_ckpt *c, ws_err *err);
} ws_ckpt_ops;

/** A tensor and where its file's header speaks of it (byte in file; for errors). */
struct ws_record {
    ws_tensor t;
    uint64_t at;
};

/** A slot of the name table: part of the hash, index + 1 of the record (0: free). */
struct ws_slot {
    uint32_t tag, record;
};

struct ws_ckpt {
    const ws_ckpt_ops *ops; /* NULL: byte ranges of files */
    void *self;
    char *path, *label;
    char *home; /* directory of config and tokenizer where .path is none; or NULL */
    const char *format; /* static */
    bool is_dir;
    ws_ckpt_kind kind;
    ws_arena arena; /* names, shapes, metadata, file names */
    struct ws_record *records;
    size_t n, cap;
    struct ws_slot *slots;
    size_t n_slots; /* power of two */
    uint64_t seed;  /* of the name hash: unknown to who wrote the file */
    ws_ckpt_file *files;
    int *fds; /* (n_files); -1: opened for each read */
    size_t n_files, cap_files;
    ws_meta *meta;
    size_t n_meta, cap_meta;
    char *config;
    size_t config_len;
};

/**
 * An empty checkpoint called @p path, of @p format (static string). With @p ops it
 * takes @p self, which ws_ckpt_free() closes; on failure @p self stays the caller's.
 * @return WS_OK; WS_E_MEMORY
 */
WS_API ws_status ws_ckpt_new(ws_ckpt **out, const char *path, const char *format,
                             const ws_ckpt_ops *ops, void *self, ws_err *err);

/**
 * Open the file at @p path, shown as @p name, and keep its identity. Its index goes to
 * @p index. The descriptor stays open while descriptors are plenty, else the file is
 * opened again, and compared, for each read.
 * @return WS_OK; WS_E_IO cannot open (err->sys), or not a regular file; WS_E_MEMORY
 */
WS_API ws_status ws_ckpt_add_file(ws_ckpt *c, const char *name, const char *path,
                                  uint32_t *index, ws_err *err);

/** Record all files of @p from as files of @p c too, without opening them: for a
 * checkpoint that wraps another. Adds at the end, in order. WS_OK; WS_E_MEMORY. */
WS_API ws_status ws_ckpt_borrow_files(ws_ckpt *c, const ws_ckpt *from, ws_err *err);

/** Read a range of an added file. Thread-safe. WS_OK; WS_E_IO. */
WS_API ws_status ws_ckpt_file_read(const ws_ckpt *c, uint32_t file, uint64_t offset,
                                   size_t len, void *dst, ws_err *err);

/** Fill n_elements and n_bytes from dtype and shape. WS_OK; WS_E_HEADER when they
 * overflow (dimensions of 0 do not hide that) or are not whole bytes. */
WS_API ws_status ws_tensor_measure(ws_tensor *t, ws_err *err);

/**
 * Add a copy of @p t (name and shape are copied too), which stands @p at in the header.
 * @return WS_OK; WS_E_HEADER the name is there already; WS_E_MEMORY
 */
WS_API ws_status ws_ckpt_add_tensor(ws_ckpt *c, const ws_tensor *t, uint64_t at,
                                    ws_err *err);

/** Add a pair of metadata (copied). Duplicates show in ws_ckpt_finish(). WS_OK;
 * WS_E_MEMORY. */
WS_API ws_status ws_ckpt_add_meta(ws_ckpt *c, const char *key, const char *value,
                                  ws_err *err);

/**
 * Sort tensors by (file, offset, size, name), metadata by key; build the table; read
 * the kind from the metadata. Nothing may be added afterwards.
 * @return WS_OK; WS_E_HEADER a metadata key stands twice; WS_E_UNSUPPORTED unknown
 * kind; WS_E_MEMORY
 */
WS_API ws_status ws_ckpt_finish(ws_ckpt *c, ws_err *err);

/** Record of the tensor called @p name, or SIZE_MAX. Also before ws_ckpt_finish(). */
WS_API size_t ws_ckpt_lookup(const ws_ckpt *c, const char *name);

/* ---- safetensors ---- */

/**
 * Add the tensors of safetensors file number @p file of @p c.
 * @param keep_meta whether its `__metadata__` becomes the checkpoint's (it is checked
 * in any case)
 * @return WS_OK; WS_E_HEADER; WS_E_UNSUPPORTED; WS_E_IO; WS_E_MEMORY
 */
WS_API ws_status ws_st_load(ws_ckpt *c, uint32_t file, bool keep_meta,
                            ws_diag *warnings, ws_err *err);

/** The same for a whole file in memory, which the checkpoint borrows: for tests and
 * fuzzing. */
WS_API ws_status ws_st_open_memory(ws_ckpt **out, const void *data, size_t len,
                                   ws_diag *warnings, ws_err *err);

/** One tensor's data range as its header says, relative to the data. */
typedef struct ws_st_range {
    uint64_t begin, end;
    uint32_t record;
} ws_st_range;

/** What the header of one file holds, beside the tensors added to the checkpoint. */
typedef struct ws_st_header_info {
    ws_st_range *ranges; /* ws_free */
    size_t n, cap;
    ws_meta *meta; /* ws_free; strings in the arena given */
    size_t n_meta, cap_meta;
} ws_st_header_info;

/**
 * Parse the JSON of a header (padding included), @p n bytes at @p text, and add its
 * tensors to @p c with file number @p file; their n_bytes and offset are not yet set.
 * Offsets in errors count from 8 bytes before @p text. @p info is freed by the caller
 * also on failure.
 */
WS_API ws_status ws_st_header_parse(ws_ckpt *c, uint32_t file, const char *text,
                                    size_t n, ws_arena *meta_arena,
                                    ws_st_header_info *info, ws_diag *warnings,
                                    ws_err *err);

/**
 * Tell a foreign file from a broken one by @p n bytes of its start.
 * @return WS_OK nothing known; WS_E_UNSUPPORTED a known format that is not read;
 * WS_E_HEADER a Git-LFS pointer and the like
 */
WS_API ws_status ws_foreign_check(const void *head, size_t n, ws_err *err);

/* ---- Hugging Face directories ---- */

/** One entry of an index's weight_map; both borrowed from the parsed tree. */
typedef struct ws_hf_entry {
    const char *tensor, *shard;
} ws_hf_entry;

/** A parsed `*.index.json`. */
typedef struct ws_hf_index {
    struct cJSON *tree;
    ws_hf_entry *entries; /* in file order */
    size_t n;
    const char **shards; /* distinct, sorted by bytes */
    size_t n_shards;
} ws_hf_index;

/**
 * Parse and check an index: weight_map of strings, each one plain path component that
 * ends in @p ending, ".safetensors" or ".bin".
 * @return WS_OK; WS_E_HEADER; WS_E_MEMORY
 */
WS_API ws_status ws_hf_index_parse(ws_hf_index *out, const char *text, size_t len,
                                   const char *ending, ws_err *err);
WS_API void ws_hf_index_free(ws_hf_index *x);

/** Open a Hugging Face directory. As ws_ckpt_open(). */
WS_API ws_status ws_hf_dir_open(ws_ckpt **out, const char *path, ws_diag *warnings,
                                ws_err *err);

/** Bytes of memory that the tables of @p c take. */
WS_API uint64_t ws_ckpt_memory(const ws_ckpt *c);

#endif
