/*
 * make_corpus.c - write the corpus from the tables of vectors, or compare it with them
 *
 *   make_corpus DIR           write DIR/safetensors/NAME and DIR/index/NAME
 *   make_corpus --check DIR   exit 1 when one is missing or differs
 *
 * Files that fuzzing added are left alone.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "index_vectors.h"
#include "st_vectors.h"

static bool check;

static bool file_equal(const char *path, const void *data, size_t n)
{
    unsigned char *have = malloc(n + 1);
    FILE *f = fopen(path, "rb");
    const bool equal = f != NULL && have != NULL && fread(have, 1, n + 1, f) == n &&
                       (n == 0 || memcmp(have, data, n) == 0);
    if (f != NULL)
        fclose(f);
    free(have);
    return equal;
}

/** Write or compare one file. */
static bool file_do(const char *dir, const char *kind, const char *name,
                    const void *data, size_t n)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s/%s", dir, kind, name);
    if (check) {
        if (file_equal(path, data, n))
            return true;
        fprintf(stderr, "%s is missing or not what its vector says\n", path);
        return false;
    }
    FILE *f = fopen(path, "wb");
    bool ok = f != NULL && fwrite(data, 1, n, f) == n;
    if (f != NULL && fclose(f) != 0)
        ok = false;
    if (!ok)
        perror(path);
    return ok;
}

int main(int argc, char **argv)
{
    check = argc == 3 && strcmp(argv[1], "--check") == 0;
    if (argc != 2 + check) {
        fprintf(stderr, "usage: make_corpus [--check] DIR\n");
        return 2;
    }
    const char *dir = argv[argc - 1];
    bool ok = true;
    for (size_t i = 0; i < N_ST_VECTORS; i++) {
        const struct st_vector *v = &st_vectors[i];
        const size_t n = st_vector_size(v);
        unsigned char *file = malloc(n + 1);
        if (file == NULL)
            return 1;
        st_vector_make(v, file);
        ok = file_do(dir, "safetensors", v->name, file, n) && ok;
        free(file);
    }
    for (size_t i = 0; i < N_INDEX_VECTORS; i++) {
        const struct index_vector *v = &index_vectors[i];
        ok = file_do(dir, "index", v->name, v->text, v->n) && ok;
    }
    return ok ? 0 : 1;
}
