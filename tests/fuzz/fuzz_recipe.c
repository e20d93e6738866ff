/*
 * fuzz_recipe.c - recipes: YAML and the schema, no file of theirs is looked at
 *
 * Nothing crashes or leaks; refusals say why; reading again, or leniently, ends as the
 * first time or better.
 */
#include <string.h>

#include "engine/recipe_internal.h"
#include "fuzz.h"

static ws_status read(const uint8_t *data, size_t size, bool lenient, size_t *models)
{
    ws_diag errors = { 0 };
    ws_recipe *r = NULL;
    const ws_status st =
        ws_recipe_parse(&r, "fuzz", (const char *)data, size, lenient, &errors, NULL);
    MUST((st == WS_OK) == (r != NULL) && (st == WS_OK) == (errors.n == 0));
    MUST(st == WS_OK || errors.items[0].msg[0] != '\0');
    *models = 0;
    for (size_t i = 0; r != NULL && i < ws_recipe_count(r); i++) {
        const ws_recipe_doc *doc = ws_recipe_at(r, i);
        MUST(doc->method != NULL && doc->n_slices > 0);
        *models += ws_recipe_model_count(doc);
    }
    ws_recipe_free(r);
    ws_diag_free(&errors);
    return st;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const long live = ws_alloc_live();
    size_t first, again, lenient;
    const ws_status st = read(data, size, false, &first);
    MUST(read(data, size, false, &again) == st && again == first);
    if (st == WS_OK)
        MUST(read(data, size, true, &lenient) == WS_OK && lenient == first);
    MUST(ws_alloc_live() == live);
    return 0;
}
