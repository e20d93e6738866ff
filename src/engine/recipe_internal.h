/*
 * recipe_internal.h - a recipe as plain data, and the values that it gives
 */
#ifndef WS_ENGINE_RECIPE_INTERNAL_H
#define WS_ENGINE_RECIPE_INTERNAL_H

#include "engine/recipe_yaml.h"
#include "hf/vocab_align.h"
#include "wsurg/merge.h"
#include "wsurg/method.h"
#include "wsurg/pattern.h"
#include "wsurg/recipe.h"
#include "wsurg/text.h"

/** What a setting says for the tensors whose name holds .filter: one number, or a
 * gradient over the layers. */
typedef struct ws_setting_rule {
    const char *filter; /**< NULL: every name */
    size_t n;
    const double *v; /**< (n) */
    bool gradient;   /**< also of one element, written as a list */
    ws_place at;
} ws_setting_rule;

/** A parameter's setting at one level: the first rule that fits holds. */
typedef struct ws_setting {
    const ws_param *param;
    size_t n;
    const ws_setting_rule *rules;
} ws_setting;

typedef struct ws_settings {
    size_t n;
    const ws_setting *v;
} ws_settings;

/** Tensors whose names begin with .from begin with .to instead. */
typedef struct ws_recipe_rename {
    const char *from, *to;
    ws_place at;
} ws_recipe_rename;

/** A model as it is named. */
typedef struct ws_recipe_ref {
    const char *path;     /**< as typed */
    ws_place at;          /**< where it is named first */
    size_t doc;           /**< the document whose result it is; SIZE_MAX: none */
    const char *adapters; /**< put on that result, "+PATH..."; NULL: none */
    size_t n_map;
    const ws_recipe_rename *map; /**< (n_map) of its tensors */
} ws_recipe_ref;

typedef struct ws_recipe_source {
    size_t ref;     /**< index among the document's refs */
    uint32_t start; /**< first layer; of a slice */
    ws_settings params;
    ws_place at;
} ws_recipe_source;

/** What becomes of the tensors that a pattern names. */
typedef struct ws_recipe_rule {
    ws_place at;
    const char *pattern;   /**< as written */
    ws_pattern_set *regex; /**< NULL: the pattern is a glob over the whole name */
    ws_rule_action what;
    const ws_method *method; /**< that merges; NULL only after an error */
    ws_settings params;
    const char *copy; /**< the model as written, or "base" */
    ws_place copy_at;
    size_t ref; /**< of the model to copy */
} ws_recipe_rule;

/** Consecutive layers of the output; the whole model in the form `models:`. */
typedef struct ws_recipe_slice {
    size_t n;
    ws_recipe_source *sources; /**< (n) */
    uint32_t first, layers;    /**< in the output; of a slice */
    bool has_base;             /**< a base of its own */
    size_t base;               /**< index among the document's refs */
    ws_settings params;
    ws_place at;
} ws_recipe_slice;

/** An entry of `tokens:`. */
typedef struct ws_recipe_token {
    ws_token_want want; /**< .model: index among the document's refs */
    ws_place at;
} ws_recipe_token;

/** `tokenizer:` or `tokenizer_source:`. */
typedef struct ws_recipe_vocab {
    ws_vocab_policy policy; /**< WS_VOCAB_ERROR: neither is there */
    ws_place at;
    const char *source; /**< of WS_VOCAB_MODEL: as typed */
    size_t n;
    ws_recipe_token *tokens; /**< (n) */
    uint64_t multiple;
} ws_recipe_vocab;

struct ws_recipe_doc {
    const struct ws_recipe *recipe; /**< that holds it */
    const char *file;               /**< for reports */
    const char *name;               /**< NULL: none */
    ws_place at, method_at;
    const ws_method *method; /**< NULL only after an error */
    size_t n_refs;
    ws_recipe_ref *refs; /**< (n_refs) the models named, each once */
    bool too_many;       /**< of them: reported */
    bool has_base;
    size_t base; /**< index among refs */
    bool sliced; /**< layers are counted: slices, else one slice without ranges */
    size_t n_slices;
    ws_recipe_slice *slices;
    uint32_t layers;            /**< of the output, when sliced */
    ws_settings module, params; /**< of the module, of the document */
    bool has_dtype;
    ws_dtype dtype; /**< of the output */
    bool has_seed;
    uint64_t seed;
    const char *lines;        /**< "A,B", or NULL */
    const char *coefficients; /**< file, or NULL */
    size_t n_rules;
    ws_recipe_rule *rules; /**< (n_rules) the first that fits a name holds */
    ws_recipe_vocab vocab;
    const char *chat_template; /**< "auto", a name or a template; NULL: none */
};

struct ws_recipe {
    ws_arena arena;
    const char *text; /**< as it was read */
    size_t n;
    ws_recipe_doc *docs; /**< (n) */
    size_t last;         /**< the one that is written */
};

/** How long a chain of documents made of each other may be. */
enum { WS_RECIPE_DEPTH = 32 };

/** The reading of one file: what its parts share. */
typedef struct ws_recipe_reader {
    const char *file;
    ws_arena *arena;
    ws_diag *errors, *warnings;
    bool lenient;
    size_t work; /**< nodes looked at: aliases cannot multiply it without end */
    bool memory; /**< none was left */
} ws_recipe_reader;

/** Zeroed memory of the recipe; NULL (and .memory) when there is none. */
void *ws_recipe_take(ws_recipe_reader *r, size_t n, size_t size);

/** Report a mistake. */
ws_err *ws_recipe_fail(ws_recipe_reader *r, ws_place at, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/** Report what would have no effect: a mistake, or a warning when lenient. */
ws_err *ws_recipe_void(ws_recipe_reader *r, ws_place at, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/** The word of @p words (n) nearest to @p word; NULL when none is near. */
const char *ws_recipe_nearest(const char *word, const char *const *words, size_t n);

/** Whether @p y is of @p kind; else a mistake that calls it @p what. */
bool ws_recipe_is(ws_recipe_reader *r, const ws_yaml *y, ws_yaml_kind kind,
                  const char *what);

/** Where parameters stand. */
typedef enum ws_level {
    WS_LEVEL_SHARED, /**< of a slice, a module, a rule or the document */
    WS_LEVEL_MODEL,  /**< of one model: only parameters of single models */
    WS_LEVEL_BASE    /**< of the base, whose update does not exist */
} ws_level;

/** recipe_settings.c: a map `parameters:` of method @p m, or, where it has none of that
 * name, of the method of one of @p doc's rules. */
void ws_recipe_settings(ws_recipe_reader *r, const ws_recipe_doc *doc,
                        const ws_method *m, const ws_yaml *y, ws_level level,
                        ws_settings *out);

/** recipe_map.c: `map:` of a model. */
void ws_recipe_read_map(ws_recipe_reader *r, ws_recipe_ref *ref, const ws_yaml *y);

/** recipe_rules.c: `rules:`; then, when all models are known, those that are copied. */
void ws_recipe_read_rules(ws_recipe_reader *r, ws_recipe_doc *doc, const ws_yaml *y);
void ws_recipe_check_rules(ws_recipe_reader *r, const ws_recipe_doc *doc);
void ws_recipe_free_rules(ws_recipe_doc *doc);

/** recipe.c: the method that @p y, the value of @p key, names; NULL after a report. */
const ws_method *ws_recipe_method(ws_recipe_reader *r, const ws_yaml *y,
                                  const char *key);

/** Keys of @p y that are none of @p words (n) have no effect. */
void ws_recipe_keys(ws_recipe_reader *r, const ws_yaml *y, const char *where,
                    const char *const *words, size_t n);

/** recipe_documents.c: names of documents, which models are documents, which of them is
 * written; documents made of themselves are reported. */
void ws_recipe_link(ws_recipe_reader *r, ws_recipe *recipe);
/** recipe.c: the text that names a model, a path or MODEL+ADAPTER; NULL after a
 * report. */
const char *ws_recipe_reference(ws_recipe_reader *r, const ws_yaml *y);

/** recipe_vocab.c: `tokenizer`, `tokenizer_source` and `chat_template` of a document
 * whose models are known. */
void ws_recipe_read_vocab(ws_recipe_reader *r, ws_recipe_doc *doc, const ws_yaml *y);

/** recipe_vocab.c: the text of a template that ships with the program; NULL: none. */
const char *ws_chat_template(const char *name);

/** Where a value is asked for. */
typedef struct ws_recipe_query {
    const ws_recipe_rule *rule; /**< that fits the tensor; NULL: none */
    const ws_recipe_slice *slice;
    const ws_recipe_source *source; /**< NULL: of no listed model */
    const char *in_name, *out_name; /**< of the source's and of the output's tensor */
    double t;                       /**< depth in the slice, 0..1 */
} ws_recipe_query;

/** The value of @p p: of the rule, the model, its slice, the module, the document.
 * False: none says one. */
bool ws_recipe_value(const ws_recipe_doc *doc, const ws_param *p,
                     const ws_recipe_query *q, double *v, ws_place *at);

/** recipe_write.c: documents (n), laid out anew; false: no recipe, or too long. */
bool ws_recipe_write_documents(ws_buf *out, ws_yaml *const *docs, size_t n);

/** A level's settings as a JSON object that says them all. */
void ws_recipe_settings_json(ws_buf *b, const ws_settings *s);

#endif
