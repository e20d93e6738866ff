/*
 * plan_internal.h - what the makers of a plan share: the plan being built and its
 * mistakes
 */
#ifndef WS_ENGINE_PLAN_INTERNAL_H
#define WS_ENGINE_PLAN_INTERNAL_H

#include "ckpt/st_write.h"
#include "wsurg/alloc.h"
#include "wsurg/digest.h"
#include "wsurg/merge.h"
#include "wsurg/text.h"

/** A digest's place in a header or in the index, to be filled in when it is known. */
typedef struct ws_patch {
    int file;        /**< index into plan->files; -1: the index's metadata */
    uint64_t offset; /**< of 32 hex digits */
    int input;       /**< whose digest; -1: the output's content */
} ws_patch;

/** How the executor cuts its work; chosen from the memory limit, never affects bytes.
 */
typedef struct ws_exec_config {
    int threads;
    size_t tile; /**< elements of a tile, a multiple of WS_BLOCK */
    int window;  /**< tensors in work at once */
    uint64_t thread_bytes, tensor_bytes, fixed_bytes; /**< what the parts take */
    uint64_t source_bytes; /**< what making adapted tensors takes */
    uint64_t keep_bytes;   /**< sources kept between a pass over all elements and what
                              follows it: whole blocks of block_bytes */
    uint64_t block_bytes;  /**< of all sources of a slice */
} ws_exec_config;

/**
 * Inputs that are open already, and what they need beside a request: for operations
 * that are no merge of files as they are typed.
 */
typedef struct ws_plan_given {
    ws_ckpt *const *inputs; /**< (n) base first if the method has one; the plan's from
                               now on, also when it is not made */
    size_t n;
    const char *recipe; /**< for wsurg.recipe; NULL: of the request */
    const char
        *provenance; /**< for wsurg.inputs, digests filled in; NULL: of the inputs */
    const char *const
        *paths; /**< (n_paths) other inputs, which the output must not be */
    size_t n_paths;
    const ws_meta *meta; /**< (n_meta) written also without provenance */
    size_t n_meta;
    /** The dtype that @p t, of the first input, is written in when it is kept; NULL:
     * its own. */
    ws_dtype (*dtype)(void *arg, const ws_tensor *t);
    void *arg;
    bool untie;          /**< a tied pair of the first input comes out as two tensors */
    uint64_t vocab_size; /**< for config.json; 0: as it is */
    const char *tokenizer_from; /**< directory of the tokenizer; NULL: with the rest */
    const void *header; /**< (header_len) in place of the usual ones: from the length
                           word to the padding of each file; NULL: none */
    uint64_t header_len;
    const char *const *files; /**< (n_files) of the header, for a directory of shards
                                 that hold what these headers say */
    size_t n_files;           /**< 0: one file */
} ws_plan_given;

struct ws_plan_priv {
    ws_arena arena;
    const ws_plan_given
        *given;         /**< while building; NULL when inputs are opened by path */
    const char **paths; /**< (n_paths) of inputs beside plan->inputs */
    size_t n_paths;
    ws_merge_req req; /**< own copy; strings borrowed */
    const ws_ctx *ctx;
    ws_diag *errors;
    ws_patch *patches;
    size_t n_patches;
    bool hash_inputs;           /**< take the inputs' digests while reading them */
    const char *recipe;         /**< canonical JSON: wsurg.recipe */
    const char *inputs;         /**< JSON with placeholders: wsurg.inputs */
    bool tie_cleared;           /**< a tied head is written as a tensor of its own */
    uint64_t vocab_size;        /**< for config.json; 0: as it is */
    const char *tokenizer_from; /**< directory of the tokenizer, or NULL */
    const char *index_name;     /**< of a sharded output, or NULL */
    char whole_key[33];         /**< the key, whatever the part */
    size_t untouched;           /**< bytes of the arena that were never written */
    size_t first_tensor,
        end_tensor; /**< what executors of this run see, for the price */
    ws_exec_config exec;
    const uint32_t *layer_from; /**< (n_layer_from) layers were stacked: the number of
                                   each in the model whose config is carried */
    size_t n_layer_from;
    uint32_t donor_layers;            /**< that this model has */
    const struct ws_vocab_map *vocab; /**< NULL when vocabularies are left alone */
    const char *vocab_json;    /**< what was asked of them, for wsurg.recipe; or NULL */
    const char *chat_template; /**< text to write; NULL: as carried */
    struct ws_recipe_plan *recipe_plan; /**< recipe_plan.c; NULL without a recipe */
    /** recipe_stages.c: shared by the plans of a recipe's documents; NULL: none of them
     * is a model. */
    struct ws_recipe_stages *stages;
    bool is_stage; /**< of a document that is a model of another: owns no .stages */
    struct ws_coefficients *coefficients; /**< NULL without --coefficients */
};

/** Elements that are compared and copied as one: tiles are multiples of it. */
enum { WS_BLOCK = 4096 };

/** Arena memory of the plan; reports WS_E_MEMORY into its errors when there is none. */
void *ws_plan_alloc(ws_plan *plan, size_t n, size_t size);
const char *ws_plan_format(ws_plan *plan, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/** As ws_plan_new(), from inputs that are open already; the paths of the request are
 * not looked at. @p given NULL: as ws_plan_new(). */
ws_status ws_plan_build(ws_plan **out, const ws_merge_req *req,
                        const ws_plan_given *given, const ws_ctx *ctx, ws_diag *errors);

/** As ws_plan_new(), of a document that is a model of another; shares @p stages. */
ws_status ws_plan_build_stage(ws_plan **out, const ws_merge_req *req,
                              struct ws_recipe_stages *stages, const ws_ctx *ctx,
                              ws_diag *errors);

/** plan_inputs.c: open the inputs, settle which is the base, give labels. */
void ws_plan_open_inputs(ws_plan *plan);

/** plan_given.c: the same from plan->priv->given; then, where it says so, other dtypes
 * after matching and another header after the layout. */
void ws_plan_take_inputs(ws_plan *plan);
void ws_plan_take_dtypes(ws_plan *plan);
bool ws_plan_take_files(ws_plan *plan);
void ws_plan_take_header(ws_plan *plan);
/** Free the inputs of @p given, which may be NULL. */
void ws_plan_given_free(const ws_plan_given *given);

/** plan_params.c: index of @p word in "a|b|c"; -1 when it is not there. */
int ws_choice_index(const char *choices, const char *word);

/** plan_params.c: resolve --set into plan->values. */
void ws_plan_params(ws_plan *plan);

/**
 * An options struct of method @p m with @p values for the models in @p model_of
 * (n); NULL when memory is out.
 */
const void *ws_plan_opts(ws_plan *plan, const ws_method *m, const ws_value *values,
                         const uint32_t *model_of, size_t n);

/** The value of parameter @p name for a model (or the only one); @p fallback if absent.
 */
double ws_plan_value(const ws_plan *plan, const char *name, size_t model,
                     double fallback);

struct ws_recipe_rule;

/** recipe_plan.c: the request that the recipe stands for; the parameters; those of the
 * tensor @p name under @p rule (NULL: none), shared with the one before where they are
 * the same; the settings as JSON. */
void ws_plan_recipe_begin(ws_plan *plan);
void ws_plan_recipe_params(ws_plan *plan);
const ws_value *ws_plan_recipe_values(ws_plan *plan, const struct ws_recipe_rule *rule,
                                      const char *name, double *t);
void ws_plan_recipe_json(const ws_plan *plan, ws_buf *b);
/** Models opened for slices: freed, and the memory that they take. */
void ws_plan_recipe_free(ws_plan *plan);
uint64_t ws_plan_recipe_memory(const ws_plan *plan);
/** recipe_stages.c: what the output's configuration and layout owe to documents that
 * are models; these as part of the plan, its key, its recipe, its price. */
void ws_plan_recipe_inherit(ws_plan *plan);
void ws_plan_recipe_stages(ws_plan *plan);
void ws_plan_recipe_identify(const ws_plan *plan, ws_buf *b);
void ws_plan_stages_json(const ws_plan *plan, ws_buf *b);
uint64_t ws_plan_stages_memory(const ws_plan *plan);
void ws_plan_stages_free(ws_plan *plan);
/** recipe_rules.c: the rules as the plan shows them; the number of models of each; the
 * first that fits @p name (NULL: none); the input that it copies (SIZE_MAX: none); a
 * report of those that fit nothing. */
void ws_plan_recipe_rules_begin(ws_plan *plan);
void ws_plan_recipe_rules_count(ws_plan *plan);
const struct ws_recipe_rule *ws_plan_recipe_rule(ws_plan *plan, const char *name);
size_t ws_plan_rule_input(const ws_plan *plan, const struct ws_recipe_rule *rule,
                          const char *name);
void ws_plan_recipe_rules_end(ws_plan *plan);
/** recipe_slices.c: the inputs when the recipe has slices. */
void ws_recipe_slice_inputs(ws_plan *plan);

/** plan_coefficients.c: the file, checked against the inputs; the values of the tensor
 * @p name, all but the weights those of @p given. */
void ws_plan_coefficients(ws_plan *plan);
const ws_value *ws_plan_coefficient_values(ws_plan *plan, const ws_value *given,
                                           const char *name);
/** Those of the groups of tensor @p name, of inputs model_of[0 .. n-1]; NULL: its
 * weights are the tensor's. */
const ws_groups *ws_plan_coefficient_groups(ws_plan *plan, const char *name,
                                            const uint32_t *model_of, size_t n);
void ws_plan_coefficients_free(ws_plan *plan);

/**
 * plan_vocab.c: compare or align the vocabularies of the models @p c (n), replacing
 * those whose rows move; @p base: whose tokenizer the others are put to. False after a
 * report. ws_plan_vocab_files: what the tokenizer becomes, from the arena.
 */
bool ws_plan_vocab(ws_plan *plan, ws_ckpt **c, size_t n, size_t base);
struct ws_companion_file;
ws_status ws_plan_vocab_files(ws_plan *plan, const char *from,
                              const struct ws_companion_file **files, size_t *n,
                              ws_err *err);
void ws_plan_vocab_files_free(const struct ws_companion_file *files, size_t n);
/** The dtype that tensor @p t of input @p input has in its model: aligned rows may be
 * shown in a wider one. */
ws_dtype ws_plan_kept_dtype(const ws_plan *plan, size_t input, const ws_tensor *t);

/** recipe_write.c: as ws_recipe_of_plan(), with inputs called @p names (n_inputs). */
ws_status ws_recipe_of_inputs(const ws_plan *plan, const char *const *names, ws_buf *b,
                              ws_err *err);

/** plan_tensors.c: match the inputs' tensors into plan->tensors. */
void ws_plan_match(ws_plan *plan);

/** plan_layers.c: the values of --lines, block numbers, the scale of every tensor. */
void ws_plan_lines_parse(ws_plan *plan);
/** Number of the block that @p name lies in, or -1; @p prefix: bytes before it. */
int ws_layer_of(const char *name, size_t *prefix);
void ws_plan_layers(ws_plan *plan);
void ws_plan_lines_apply(ws_plan *plan);

/** plan_layout.c: files, order, headers, provenance, key. */
void ws_plan_layout(ws_plan *plan);

/** The 32 characters that stand for digest number @p k until it is known. */
void ws_placeholder(size_t k, char out[33]);

/** plan_cost.c: how the executor will cut its work, and what it will take. */
void ws_plan_price(ws_plan *plan);

/** Bytes of the scratch that one thread needs with tiles of @p tile elements. */
uint64_t ws_exec_thread_bytes(const ws_plan *plan, size_t tile);
/** The largest state that a tensor in work needs. */
uint64_t ws_exec_tensor_bytes(const ws_plan *plan, int threads);
/** Bytes of the sources of the largest tensor that passes run over, and of a slice of
 * any such; 0 when there is none. */
uint64_t ws_exec_keep_bytes(const ws_plan *plan, uint64_t *slice);

/** The tensor of @p input for output name @p name; a tied partner stands in. */
const ws_tensor *ws_plan_find(const ws_ckpt *input, const char *name, bool *tied);

/** Index among plan->inputs of model @p m. */
static inline size_t ws_plan_input_of(const ws_plan *plan, size_t m)
{
    return m + (plan->has_base ? 1 : 0);
}

/** The tensor of input @p k that goes into @p pt under its own name; NULL if none. */
const ws_tensor *ws_plan_source(const ws_plan *plan, const ws_plan_tensor *pt,
                                size_t k);

#endif
