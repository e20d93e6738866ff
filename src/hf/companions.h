/*
 * companions.h - what a model directory holds beside its weights, carried to an output
 */
#ifndef WS_HF_COMPANIONS_H
#define WS_HF_COMPANIONS_H

#include "ckpt/stage.h"
#include "wsurg/dtype.h"

/** A file that is written in place of the directory's own. */
typedef struct ws_companion_file {
    const char *name;
    const char *text; /**< (len); NULL: the file is left out */
    size_t len;
} ws_companion_file;

/** What config.json must say of the output that it did not say of its source. */
typedef struct ws_companion_opts {
    bool dtype_set; /**< weights were written as .dtype */
    ws_dtype dtype;
    bool untie;       /**< the head is written as a tensor of its own */
    bool dequantised; /**< weights are numbers now: quantization_config goes */
    const char
        *folder; /**< of the output that they go to, "residual/"; NULL: its top */
    uint64_t vocab_size;        /**< the embedding has so many rows now; 0: as it was */
    const char *tokenizer_from; /**< directory whose tokenizer, if it has one, takes
                                   the place of the other's; NULL: none */
    const uint32_t *layer_from; /**< (n_layer_from) the layer that each one was; NULL:
                                   they are as they were */
    size_t n_layer_from;
    uint32_t layers;                /**< that there were */
    const ws_companion_file *files; /**< (n_files) */
    size_t n_files;
} ws_companion_opts;

/**
 * Carry config, tokenizer, chat templates, generation settings, licences and notices
 * (formats.md 2.5) from the directory @p from into the stage of a directory.
 *
 * config.json is edited only where it must be (config_edit.h): `torch_dtype` or `dtype`
 * where it stands, `tie_word_embeddings` and `vocab_size` wherever they stand and at
 * the top where they do not; every other byte stays. Python code and pickles are never
 * carried, nor is the model card README.md: one parent's card is false for what is made
 * of several. Notes in @p warnings name the files left behind (weights, manifests and
 * hidden files go without saying), code in one of its own; a warning says that
 * config.json refers to code (`auto_map`).
 * @return WS_OK; WS_E_IO; WS_E_HEADER config.json is not valid JSON; WS_E_MEMORY
 */
WS_API ws_status ws_companions_carry(ws_stage *stage, const char *from,
                                     const ws_companion_opts *o, ws_diag *warnings,
                                     ws_err *err);

#endif
