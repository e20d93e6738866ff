/*
 * st_vectors.h - small safetensors files with the verdict that is expected on each
 *
 * The numbers are those of formats.md 9. test_safetensors.c checks the verdicts,
 * make_corpus.c writes the files that fuzzing starts from.
 */
#ifndef WS_TEST_ST_VECTORS_H
#define WS_TEST_ST_VECTORS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "wsurg/err.h"

#define LENGTH_TRUE UINT64_MAX       /* length word = bytes of the header */
#define LENGTH_NONE (UINT64_MAX - 1) /* no length word: the bytes are the file */

struct st_vector {
    const char *name;
    const char *bytes; /* header, or the whole file */
    size_t n;
    uint64_t length; /* word written before them, or one of the above */
    uint64_t data;   /* zero bytes after them */
    ws_status verdict;
    const char *says;   /* part of the error's text */
    const char *hint;   /* part of the hint */
    const char *tensor; /* where: NULL and -1 are not looked at */
    int64_t offset;
    const char *warning; /* tag of the only warning; NULL: there is none */
};

#define BYTES(s)                 s, sizeof(s) - 1
#define FILE_(s)                 BYTES(s), LENGTH_TRUE
#define RAW(s)                   BYTES(s), LENGTH_NONE, 0
#define OK                       WS_OK, NULL, NULL, NULL, -1, NULL
#define WARN(tag)                WS_OK, NULL, NULL, NULL, -1, tag
#define BAD(says)                WS_E_HEADER, says, NULL, NULL, -1, NULL
#define AT(says, tensor, offset) WS_E_HEADER, says, NULL, tensor, offset, NULL
#define UNSUP(says)              WS_E_UNSUPPORTED, says, NULL, NULL, -1, NULL

/* the fields of a tensor of 4 bytes */
#define T "\"dtype\":\"I32\",\"shape\":[1],\"data_offsets\":[0,4]"

/* one tensor called a */
#define ONE(dtype, shape, range) FIRST("a", dtype, shape, range) "}"
/* several: FIRST(...) NEXT(...) "}" */
#define FIRST(name, dtype, shape, range) "{" TENSOR(name, dtype, shape, range)
#define NEXT(name, dtype, shape, range)  "," TENSOR(name, dtype, shape, range)
#define TENSOR(name, dtype, shape, range)                                              \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape                           \
    ",\"data_offsets\":" range "}"
#define BIG "2305843009213693951" /* 2^61 - 1 */

/* clang-format off: it spreads rows of macros over hundreds of columns */
static const struct st_vector st_vectors[] = {
    { "00-one-tensor", FILE_("{\"a\":{" T "}}"), 4, OK },
    { "01-name-twice", FILE_("{\"a\":{" T "},\"a\":{" T "}}"), 4,
      AT("tensor stands twice in the header", "a", 8 + 54) },
    { "02-name-twice-escaped", FILE_("{\"a\":{" T "},\"\\u0061\":{" T "}}"), 4,
      AT("tensor stands twice in the header", "a", 8 + 54) },
    { "03-dtype-twice", FILE_("{\"a\":{\"dtype\":\"I32\"," T "}}"), 4,
      AT("field 'dtype' stands twice", "a", 8 + 20) },
    { "03-shape-twice", FILE_("{\"a\":{\"shape\":[1]," T "}}"), 4,
      BAD("field 'shape' stands twice") },
    { "03-offsets-twice", FILE_("{\"a\":{\"data_offsets\":[0,4]," T "}}"), 4,
      BAD("field 'data_offsets' stands twice") },
    { "03-dtype-twice-escaped", FILE_("{\"a\":{\"\\u0064type\":\"I32\"," T "}}"), 4,
      BAD("field 'dtype' stands twice") },
    { "04-metadata-twice", FILE_("{\"__metadata__\":{},\"__metadata__\":{}}"), 0,
      AT("__metadata__ stands twice", NULL, 8 + 19) },
    { "04-metadata-twice-null",
      FILE_("{\"__metadata__\":null,\"\\u005f_metadata__\":{}}"), 0,
      BAD("__metadata__ stands twice") },
    { "05-metadata-key-twice",
      FILE_("{\"__metadata__\":{\"k\":\"1\",\"\\u006b\":\"2\"}}"), 0,
      BAD("metadata key 'k' stands twice") },
    { "06-metadata-null", FILE_("{\"__metadata__\":null}"), 0, WARN("null-metadata") },
    { "07-metadata-integer", FILE_("{\"__metadata__\":{\"k\":1}}"), 0,
      AT("__metadata__ must be an object of strings", NULL, 8 + 21) },
    { "07-metadata-null-value", FILE_("{\"__metadata__\":{\"k\":null}}"), 0,
      BAD("__metadata__ must be an object of strings") },
    { "07-metadata-array", FILE_("{\"__metadata__\":[]}"), 0,
      BAD("__metadata__ must be an object of strings") },
    { "07-metadata-string", FILE_("{\"__metadata__\":\"x\"}"), 0,
      BAD("__metadata__ must be an object of strings") },
    { "08-unknown-field", FILE_("{\"a\":{" T ",\"x\":{\"y\":[1,-2.5e3,{}]}}}"), 4,
      WARN("unknown-field") },
    { "08-unknown-field-first", FILE_("{\"a\":{\"x\":[[],{}, true],\"y\":\"\"," T "}}"),
      4, WARN("unknown-field") },
    { "08-unknown-field-malformed", FILE_("{\"a\":{" T ",\"x\":[1,]}}"), 4,
      BAD("expected a value, found ']'") },
    { "09-tensor-as-array", FILE_("{\"a\":[\"I32\",[1],[0,4]]}"), 4,
      AT("tensor must be an object", "a", 8 + 5) },
    { "09-dtype-as-object",
      FILE_("{\"a\":{\"dtype\":{\"I32\":null},\"shape\":[1],\"data_"
            "offsets\":[0,4]}}"),
      4, BAD("dtype must be a string") },
    { "10-dimension-1.0", FILE_(ONE("I32", "[1.0]", "[0,4]")), 4,
      AT("a dimension must be an unsigned integer", "a", 8 + 29) },
    { "10-dimension-1e0", FILE_(ONE("I32", "[1e0]", "[0,4]")), 4,
      BAD("a dimension must be an unsigned integer") },
    { "10-dimension-minus", FILE_(ONE("I32", "[-1]", "[0,4]")), 4,
      BAD("a dimension must be an unsigned integer") },
    { "10-dimension-01", FILE_(ONE("I32", "[01]", "[0,4]")), 4,
      BAD("a dimension must be an unsigned integer") },
    { "10-dimension-nan", FILE_(ONE("I32", "[NaN]", "[0,4]")), 4,
      BAD("a dimension must be an unsigned integer") },
    { "10-dimension-string", FILE_(ONE("I32", "[\"1\"]", "[0,4]")), 4,
      BAD("a dimension must be an unsigned integer") },
    { "10-shape-null", FILE_(ONE("I32", "null", "[0,4]")), 4,
      BAD("shape must be an array") },
    { "10-offset-minus-0", FILE_(ONE("I32", "[1]", "[-0,4]")), 4,
      BAD("an offset must be an unsigned integer") },
    { "10-offset-string", FILE_(ONE("I32", "[1]", "[\"0\",4]")), 4,
      BAD("an offset must be an unsigned integer") },
    { "11-three-offsets", FILE_(ONE("I32", "[1]", "[0,4,4]")), 4,
      BAD("data_offsets must be an array of two integers") },
    { "11-one-offset", FILE_(ONE("I32", "[1]", "[0]")), 4,
      BAD("data_offsets must be an array of two integers") },
    { "11-no-offsets", FILE_(ONE("I32", "[1]", "[]")), 4,
      BAD("data_offsets must be an array of two integers") },
    { "11-offsets-object", FILE_(ONE("I32", "[1]", "{}")), 4,
      BAD("data_offsets must be an array of two integers") },
    { "12-length-0", FILE_(""), 0, BAD("header is empty") },
    { "12-nul-padding", FILE_("{}\0\0\0\0\0\0"), 0,
      AT("expected only spaces after the header's object, found byte 0x00", NULL, 10) },
    { "12-text-after", FILE_("{} x"), 0,
      BAD("expected only spaces after the header's object, found 'x'") },
    { "12-two-objects", FILE_("{}{}"), 0,
      BAD("expected only spaces after the header's object, found '{'") },
    { "12-byte-order-mark", FILE_("\xEF\xBB\xBF{}"), 0,
      BAD("header begins with a byte order mark") },
    { "12-vertical-tab", FILE_("{}\v"), 0,
      BAD("expected only spaces after the header's object, found byte "
          "0x0b") },
    { "12-comment", FILE_("{/**/}"), 0, BAD("expected a key in quotes, found '/'") },
    { "12-trailing-comma", FILE_("{\"a\":{" T "},}"), 4,
      BAD("expected a key in quotes, found '}'") },
    { "12-trailing-comma-field", FILE_("{\"a\":{" T ",}}"), 4,
      BAD("expected a key in quotes, found '}'") },
    { "12-array", FILE_("[]"), 0, BAD("expected '{', found '['") },
    { "12-cut", FILE_("{\"a\":{" T), 4,
      BAD("expected ',' or '}', found the end of the header") },
    { "12-cut-in-string", FILE_("{\"a"), 0, AT("string without end", NULL, 9) },
    { "12-cut-in-escape", FILE_("{\"a\\"), 0, BAD("unknown escape in a string") },
    { "12-only-spaces", FILE_("        "), 0,
      BAD("expected '{', found the end of the header") },
    { "12-no-colon", FILE_("{\"a\" {" T "}}"), 4, BAD("expected ':', found '{'") },
    { "12-bare-key", FILE_("{a:{" T "}}"), 4,
      BAD("expected a key in quotes, found 'a'") },
    { "13-leading-spaces", FILE_("  {}"), 0, WARN("leading-space") },
    { "13-trailing-spaces", FILE_("{}\r\n\t "), 0, OK },
    { "13-spaces-everywhere",
      FILE_("{ \"a\" :\n{ \"dtype\" : \"I32\" ,\t\"shape\" : [ 1 , 1 ] , "
            "\"data_offsets\"\r: [ 0 , 4 ] } }"),
      4, OK },
    { "14-hole",
      FILE_(FIRST("a", "U8", "[2]", "[0,2]") NEXT("b", "U8", "[1]", "[3,4]") "}"), 4,
      AT("data_offsets [3,4] leave a hole of 1 bytes before them", "b", 8 + 53) },
    { "14-overlap",
      FILE_(FIRST("a", "U8", "[3]", "[0,3]") NEXT("b", "U8", "[2]", "[2,4]") "}"), 4,
      AT("data_offsets [2,4] overlap those of tensor 'a'", "b", 8 + 53) },
    { "14-same-range",
      FILE_(FIRST("a", "U8", "[4]", "[0,4]") NEXT("b", "U8", "[4]", "[0,4]") "}"), 4,
      BAD("data_offsets [0,4] overlap those of tensor") },
    { "14-first-at-4", FILE_(ONE("I32", "[1]", "[4,8]")), 8,
      AT("data_offsets [4,8] leave a hole of 4 bytes before them", "a", 9) },
    { "14-reversed", FILE_(ONE("I32", "[1]", "[4,0]")), 4,
      BAD("data_offsets [4,0] run backwards") },
    { "14-span-differs", FILE_(ONE("F32", "[2,3]", "[0,20]")), 20,
      AT("data_offsets [0,20] span 20 bytes, F32 [2,3] needs 24", "a", 9) },
    { "14-empty-spans", FILE_(ONE("F32", "[2,0]", "[0,4]")), 4,
      BAD("data_offsets [0,4] span 4 bytes, F32 [2,0] needs 0") },
    { "15-unsorted",
      FILE_(FIRST("b", "U8", "[2]", "[2,4]") NEXT("a", "U8", "[2]", "[0,2]") "}"), 4,
      OK },
    { "16-empties-share-an-offset",
      FILE_(FIRST("c", "I32", "[1]", "[0,4]") NEXT("a", "F32", "[0]", "[0,0]")
                NEXT("b", "U8", "[3,0]", "[0,0]") NEXT("z", "U8", "[0]", "[4,4]") "}"),
      4, OK },
    { "17-empty-inside-another",
      FILE_(FIRST("a", "I32", "[1]", "[0,4]") NEXT("b", "U8", "[0]", "[2,2]") "}"), 4,
      BAD("data_offsets [2,2] overlap those of tensor 'a'") },
    { "18-zero-then-huge",
      FILE_(ONE("I32", "[0,18446744073709551615,18446744073709551615]", "[0,0]")), 0,
      BAD("shape of tensor overflows") },
    { "18-huge-then-zero",
      FILE_(ONE("I32", "[18446744073709551615,18446744073709551615,0]", "[0,0]")), 0,
      BAD("shape of tensor overflows") },
    { "19-dimension-2to64", FILE_(ONE("U8", "[18446744073709551616]", "[0,0]")), 0,
      BAD("a dimension is above 2^64-1") },
    { "19-offset-2to64", FILE_(ONE("U8", "[0]", "[0,99999999999999999999]")), 0,
      BAD("an offset is above 2^64-1") },
    { "20-elements-2to61",
      FILE_(ONE("U8", "[2305843009213693952]", "[0,2305843009213693952]")), 0,
      BAD("shape of tensor overflows") },
    { "20-product-overflows", FILE_(ONE("U8", "[2,9223372036854775807]", "[0,4]")), 4,
      BAD("shape of tensor overflows") },
    { "21-sum-near-2to64",
      FILE_(
          FIRST("a", "U8", "[" BIG "]", "[0,2305843009213693951]") NEXT(
              "b", "U8", "[" BIG "]", "[2305843009213693951,4611686018427387902]")
              NEXT("c", "U8", "[" BIG "]", "[4611686018427387902,6917529027641081853]")
                  NEXT("d", "U8", "[" BIG "]",
                       "[6917529027641081853,9223372036854775804]")
                      NEXT("e", "U8", "[" BIG "]",
                           "[9223372036854775804,11529215046068469755]")
                          NEXT("f", "U8", "[" BIG "]",
                               "[11529215046068469755,13835058055282163706]")
                              NEXT("g", "U8", "[" BIG "]",
                                   "[13835058055282163706,16140901064495857657]")
                                  NEXT("h", "U8", "[" BIG "]",
                                       "[16140901064495857657,"
                                       "18446744073709551608]") "}"),
      0, BAD("file is cut short: tensors need 18446744073709551608 bytes") },
    { "22-f4-2", FILE_(ONE("F4", "[2]", "[0,1]")), 1, OK },
    { "22-f4-3", FILE_(ONE("F4", "[3]", "[0,2]")), 2,
      AT("tensor has 12 bits (3 elements of F4), which are no whole bytes", "a", 9) },
    { "22-f6-4", FILE_(ONE("F6_E2M3", "[4]", "[0,3]")), 3, OK },
    { "22-f6-5", FILE_(ONE("F6_E3M2", "[5]", "[0,4]")), 4,
      BAD("tensor has 30 bits (5 elements of F6_E3M2), which are no whole "
          "bytes") },
    { "23-f64-at-odd-offset",
      FILE_(FIRST("a", "U8", "[1]", "[0,1]") NEXT("b", "F64", "[2]", "[1,17]") "}"), 17,
      OK },
    { "24-length-100", BYTES("{}"), 100, 0,
      AT("header length 100 goes past the end of the file (10 bytes)", NULL, 0) },
    { "24-length-100000000", BYTES("{}"), 100000000, 0,
      BAD("header length 100000000 goes past the end of the file") },
    { "24-length-100000001", BYTES("{}"), 100000001, 0,
      BAD("header length 100000001 is above the limit of 100000000 "
          "bytes") },
    { "24-length-2to64-1", RAW("\xff\xff\xff\xff\xff\xff\xff\xff{}"),
      AT("header length 18446744073709551615 is above the limit", NULL, 0) },
    { "25-seven-bytes", RAW("\1\2\3\4\5\6\7"),
      AT("file has 7 bytes, a header begins with 8", NULL, 0) },
    { "25-eight-bytes", RAW("\1\0\0\0\0\0\0\0"),
      BAD("header length 1 goes past the end of the file (8 bytes)") },
    { "25-trailing-byte", FILE_("{\"a\":{" T "}}"), 5,
      AT("file has 1 more bytes than the tensors need", NULL, 8 + 54 + 4) },
    { "25-one-byte-short", FILE_("{\"a\":{" T "}}"), 3,
      AT("file is cut short: tensors need 4 bytes of data, it has 3", NULL,
         8 + 54 + 3) },
    { "25-no-data", FILE_("{\"a\":{" T "}}"), 0, BAD("file is cut short") },
    { "25-data-without-tensors", FILE_("{}"), 8,
      BAD("file has 8 more bytes than the tensors need") },
    { "26-nested-8", FILE_("{\"a\":{" T ",\"x\":[[[[[[]]]]]]}}"), 4,
      WARN("unknown-field") },
    { "26-nested-9", FILE_("{\"a\":{" T ",\"x\":[[[[[[[]]]]]]]}}"), 4,
      BAD("header is nested deeper than 8 levels") },
    { "27-lone-surrogate", FILE_("{\"\\ud800\":{" T "}}"), 4,
      AT("lone surrogate in a string", NULL, 8 + 2) },
    { "27-lone-low-surrogate", FILE_("{\"\\udc00\":{" T "}}"), 4,
      BAD("lone surrogate in a string") },
    { "27-surrogate-without-mate", FILE_("{\"\\ud800\\u0041\":{" T "}}"), 4,
      BAD("lone surrogate in a string") },
    { "27-surrogate-pair", FILE_("{\"\\ud83d\\ude00\":{" T "}}"), 4, OK },
    { "27-raw-control", FILE_("{\"a\n\":{" T "}}"), 4,
      AT("raw control character in a string", NULL, 8 + 3) },
    { "27-overlong", FILE_("{\"\xC0\xAF\":{" T "}}"), 4,
      AT("header is not valid UTF-8", NULL, 8 + 2) },
    { "27-utf8-surrogate", FILE_("{\"\xC3\xA9\xED\xA0\x80\":{" T "}}"), 4,
      AT("header is not valid UTF-8", NULL, 8 + 4) },
    { "27-cut-utf8", FILE_("{}\xE2\x82"), 0,
      AT("header is not valid UTF-8", NULL, 8 + 2) },
    { "27-unknown-escape", FILE_("{\"\\x61\":{" T "}}"), 4,
      BAD("unknown escape in a string") },
    { "27-malformed-escape", FILE_("{\"\\u00g1\":{" T "}}"), 4,
      BAD("malformed \\u escape") },
    { "27-all-escapes", FILE_("{\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\u20AC\":{" T "}}"),
      4, OK },
    { "28-nul-in-name", FILE_("{\"a\\u0000b\":{" T "}}"), 4,
      AT("NUL in a string", NULL, 8 + 3) },
    { "28-empty-name", FILE_("{\"\":{" T "}}"), 4, WARN("empty-name") },
    { "29-tensor-called-metadata", FILE_("{\"__metadata__\":{" T "}}"), 4,
      BAD("__metadata__ must be an object of strings") },
    { "30-bool-2", FILE_(ONE("BOOL", "[2]", "[0,2]")), 2, OK },
    { "31-rank-65",
      FILE_(ONE("U8",
                "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,"
                "1,1,1,1,"
                "1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]",
                "[0,1]")),
      1, BAD("shape has more than 64 dimensions") },
    { "32-dtype-unknown", FILE_(ONE("F8_E3M4", "[4]", "[0,4]")), 4, WS_E_UNSUPPORTED,
      "unknown dtype 'F8_E3M4'", NULL, "a", 8 + 14, NULL },
    { "32-dtype-lower-case", FILE_(ONE("f32", "[1]", "[0,4]")), 4, WS_E_UNSUPPORTED,
      "unknown dtype 'f32'", "safetensors spells it 'F32'", "a", 22, NULL },
    { "32-dtype-long",
      FILE_(ONE("F8_E3M4_AND_MUCH_MORE_THAN_ANY_DTYPE_EVER_WAS_NAMED_"
                "SO_THAT_IT_IS_LONGER_THAN_WHAT_IS_COMPARED_WITH_THEM",
                "[4]", "[0,4]")),
      4, UNSUP("unknown dtype 'F8_E3M4_AND_MUCH...'") },
    { "32-no-dtype", FILE_("{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}"), 4,
      AT("field 'dtype' is missing", "a", 9) },
    { "32-no-shape", FILE_("{\"a\":{\"dtype\":\"I32\",\"data_offsets\":[0,4]}}"), 4,
      BAD("field 'shape' is missing") },
    { "32-no-fields", FILE_("{\"a\":{}}"), 0, BAD("field 'dtype' is missing") },
    { "33-scalar", FILE_(ONE("F32", "[]", "[0,4]")), 4, OK },
    { "33-all-dtypes",
      FILE_("{\"__metadata__\":{\"format\":\"pt\"}" NEXT("u64", "U64", "[1]", "[0,8]")
                NEXT("i64", "I64", "[1]", "[8,16]") NEXT(
                    "f64", "F64", "[1]", "[16,24]") NEXT("c64", "C64", "[1]", "[24,32]")
                    NEXT("f32", "F32", "[1]",
                         "[32,36]") NEXT("u32", "U32", "[1]",
                                         "[36,40]") NEXT("i32", "I32", "[1]", "[40,44]")
                        NEXT("bf16", "BF16", "[1]", "[44,46]") NEXT(
                            "f16", "F16", "[1]", "[46,48]") NEXT("u16", "U16",
                                                                 "[1]", "[48,50]")
                            NEXT("i16", "I16", "[1]", "[50,52]") NEXT(
                                "e5u", "F8_E5M2FNUZ", "[1]",
                                "[52,53]") NEXT("e4u", "F8_E4M3FNUZ", "[1]", "[53,54]")
                                NEXT("e8", "F8_E8M0", "[1]",
                                     "[54,55]") NEXT("e4", "F8_E4M3", "[1]", "[55,56]")
                                    NEXT("e5", "F8_E5M2", "[1]",
                                         "[56,57]") NEXT("i8", "I8", "[1]", "[57,58]")
                                        NEXT("u8", "U8", "[1]", "[58,59]")
                                            NEXT("f6", "F6_E3M2", "[4]", "[59,62]")
                                                NEXT("f6b", "F6_E2M3", "[4]", "[62,65]")
                                                    NEXT("f4", "F4", "[2]", "[65,66]")
                                                        NEXT("b", "BOOL", "[1]",
                                                             "[66,67]") "}     "),
      67, OK },
    { "33-metadata",
      FILE_("{\"__metadata__\":{\"b\":\"2\\n\",\"\":\"\",\"a\":"
            "\"\xC3\xA9\"}}"),
      0, OK },
    { "34-lfs-pointer",
      RAW("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize "
          "1\n"),
      WS_E_HEADER, "file is a Git-LFS pointer, not the weights", "git lfs pull", NULL,
      0, NULL },
    { "34-empty-file", RAW(""), BAD("file is empty") },
    { "34-pytorch-legacy",
      RAW("\x80\2\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."),
      UNSUP("PyTorch checkpoint of the form before version 1.6") },
    { "34-pickle", RAW("\x80\4\x95\0\0\0\0\0\0\0}."), UNSUP("file is a pickle") },
    { "34-web-page", RAW("<!DOCTYPE html><html>404"), WS_E_HEADER,
      "file is a web page, not the weights", "fetch it again", NULL, 0, NULL },
    { "34-index-itself", RAW("{\"metadata\":{},\"weight_map\":{}}"), WS_E_HEADER,
      "file begins as JSON", "name its directory", NULL, 0, NULL },
    { "35-kind-unknown", FILE_("{\"__metadata__\":{\"wsurg.kind\":\"x\\u001b\"}}"), 0,
      UNSUP("metadata says wsurg.kind 'x\\x1b', which is unknown") },
    { "35-kind-taskvec", FILE_("{\"__metadata__\":{\"wsurg.kind\":\"taskvec\"}}"), 0,
      OK },
};
/* clang-format on */

enum { N_ST_VECTORS = sizeof st_vectors / sizeof *st_vectors };

/** Bytes of the vector's file. */
static inline size_t st_vector_size(const struct st_vector *v)
{
    return (v->length == LENGTH_NONE ? 0 : 8) + v->n + (size_t)v->data;
}

/** Write the file to @p out (st_vector_size() bytes). */
static inline void st_vector_make(const struct st_vector *v, unsigned char *out)
{
    const uint64_t length = v->length == LENGTH_TRUE ? v->n : v->length;
    if (v->length != LENGTH_NONE)
        for (int i = 0; i < 8; i++)
            *out++ = (unsigned char)(length >> (8 * i) & 0xFF);
    if (v->n > 0)
        memcpy(out, v->bytes, v->n);
    if (v->data > 0)
        memset(out + v->n, 0, (size_t)v->data);
}

#endif
