/*
 * index_vectors.h - index files of sharded models with the verdict expected on each
 */
#ifndef WS_TEST_INDEX_VECTORS_H
#define WS_TEST_INDEX_VECTORS_H

#include <stddef.h>

#include "wsurg/err.h"

struct index_vector {
    const char *name;
    const char *text;
    size_t n;
    ws_status verdict;
    const char *says; /* part of the error's text */
};

#define IDX(s)    s, sizeof(s) - 1
#define MAP(map)  IDX("{\"metadata\":{\"total_size\":4},\"weight_map\":" map "}")
#define SHARD(s)  MAP("{\"a\":\"" s "\"}")
#define NOT_PLAIN WS_E_HEADER, "is not a plain file name in the index's own directory"

static const struct index_vector index_vectors[] = {
    { "00-one-shard", SHARD("model-00001-of-00001.safetensors"), WS_OK, NULL },
    { "00-two-shards",
      MAP("{\"b\":\"y.safetensors\",\"a\":\"x.safetensors\","
          "\"c\":\"y.safetensors\"}"),
      WS_OK, NULL },
    { "00-no-metadata", IDX("{\"weight_map\":{\"a\":\"x.safetensors\"}}"), WS_OK,
      NULL },
    { "00-metadata-float",
      IDX("{\"metadata\":{\"total_size\":4.5,\"x\":[{}]},\"weight_map\":{\"a\":"
          "\"x.safetensors\"}}\n"),
      WS_OK, NULL },
    { "01-absolute", SHARD("/etc/x.safetensors"), NOT_PLAIN },
    { "02-parent", SHARD("../x.safetensors"), NOT_PLAIN },
    { "02-parent-inside", SHARD("a/../x.safetensors"), NOT_PLAIN },
    { "03-backslash", SHARD("..\\\\x.safetensors"), NOT_PLAIN },
    { "03-slash-escaped", SHARD("..\\u002fx.safetensors"), NOT_PLAIN },
    { "04-drive", SHARD("C:x.safetensors"), NOT_PLAIN },
    { "05-network", SHARD("//host/share.safetensors"), NOT_PLAIN },
    { "06-folder", SHARD("sub/x.safetensors"), NOT_PLAIN },
    { "07-hidden", SHARD(".x.safetensors"), NOT_PLAIN },
    { "07-dot-dot", SHARD(".."), NOT_PLAIN },
    { "08-pickle", SHARD("pytorch_model.bin"), WS_E_HEADER,
      "shard name 'pytorch_model.bin' of the index does not end in .safetensors" },
    { "08-upper-case", SHARD("x.SAFETENSORS"), WS_E_HEADER,
      "does not end in .safetensors" },
    { "08-only-the-end", SHARD("safetensors"), WS_E_HEADER,
      "does not end in .safetensors" },
    { "09-empty", SHARD(""), WS_E_HEADER, "shard name '' of the index is empty" },
    { "10-nul", SHARD("x\\u0000.safetensors"), WS_E_HEADER, "escaped NUL" },
    { "11-space", SHARD("x y.safetensors"), WS_E_HEADER,
      "has other characters than letters, digits, '.', '_' and '-'" },
    { "11-control", SHARD("x\\u001b.safetensors"), WS_E_HEADER,
      "shard name 'x\\x1b.safetensors' of the index has other characters" },
    { "12-integer", MAP("{\"a\":1}"), WS_E_HEADER,
      "weight_map of the index does not name a file" },
    { "12-null", MAP("{\"a\":null}"), WS_E_HEADER,
      "weight_map of the index does not name a file" },
    { "12-object", MAP("{\"a\":{}}"), WS_E_HEADER,
      "weight_map of the index does not name a file" },
    { "13-map-empty", MAP("{}"), WS_E_HEADER, "weight_map of the index is empty" },
    { "13-map-array", MAP("[\"x.safetensors\"]"), WS_E_HEADER,
      "index has no object 'weight_map'" },
    { "13-no-map", IDX("{}"), WS_E_HEADER, "index has no object 'weight_map'" },
    { "13-array", IDX("[1]"), WS_E_HEADER, "index has no object 'weight_map'" },
    { "13-map-upper-case", IDX("{\"Weight_Map\":{\"a\":\"x.safetensors\"}}"),
      WS_E_HEADER, "index has no object 'weight_map'" },
    { "14-tensor-twice", MAP("{\"a\":\"x.safetensors\",\"a\":\"y.safetensors\"}"),
      WS_E_HEADER, "JSON key 'a' stands twice" },
    { "14-map-twice",
      IDX("{\"weight_map\":{\"a\":\"x.safetensors\"},\"weight_map\":{\"a\":"
          "\"y.safetensors\"}}"),
      WS_E_HEADER, "JSON key 'weight_map' stands twice" },
    { "15-text-after", IDX("{\"weight_map\":{\"a\":\"x.safetensors\"}}x"), WS_E_HEADER,
      "text after the value" },
    { "15-empty-file", IDX(""), WS_E_HEADER, "unexpected end" },
    { "15-trailing-comma", MAP("{\"a\":\"x.safetensors\",}"), WS_E_HEADER,
      "expected a key" },
    { "15-not-utf8", SHARD("\xff.safetensors"), WS_E_HEADER, "not valid UTF-8" },
};

enum { N_INDEX_VECTORS = sizeof index_vectors / sizeof *index_vectors };

#endif
