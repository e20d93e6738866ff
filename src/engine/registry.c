/*
 * registry.c - the merge methods by name and number
 *
 * methods.def is made from the list in merges/meson.build, which is in order.
 */
#include "wsurg/method.h"

#define WS_METHOD_ENTRY(name)                                                          \
    extern const ws_method ws_method_##name##_f32, ws_method_##name##_f64;
#include "methods.def"
#undef WS_METHOD_ENTRY

static const ws_method *const methods[] = {
#define WS_METHOD_ENTRY(name) &ws_method_##name##_f32,
#include "methods.def"
#undef WS_METHOD_ENTRY
};

static const ws_method *const twins[] = {
#define WS_METHOD_ENTRY(name) &ws_method_##name##_f64,
#include "methods.def"
#undef WS_METHOD_ENTRY
};

enum { N_METHODS = sizeof methods / sizeof methods[0] };

size_t ws_method_count(void)
{
    return N_METHODS;
}

const ws_method *ws_method_at(size_t i)
{
    return i < N_METHODS ? methods[i] : NULL;
}

static bool names_match(const char *a, const char *b)
{
    for (; *a != '\0' && *b != '\0'; a++, b++)
        if (*a != *b && !((*a == '-' || *a == '_') && (*b == '-' || *b == '_')))
            return false;
    return *a == *b;
}

const ws_method *ws_method_find(const char *name)
{
    for (size_t i = 0; i < N_METHODS; i++)
        if (names_match(methods[i]->name, name))
            return methods[i];
    return NULL;
}

const ws_method *ws_method_f64(const ws_method *m)
{
    for (size_t i = 0; i < N_METHODS; i++)
        if (methods[i] == m || twins[i] == m)
            return twins[i];
    return NULL;
}
