/*
 * pickle_globals.c - the only names a state dict's pickle may refer to
 */
#include <string.h>

#include "ckpt/pickle_nodes.h"

static const pickle_global table[] = {
    { "collections", "OrderedDict", GLOBAL_DICT, WS_DT_U8 },
    { "torch._utils", "_rebuild_tensor", GLOBAL_TENSOR_V1, WS_DT_U8 },
    { "torch._utils", "_rebuild_tensor_v2", GLOBAL_TENSOR_V2, WS_DT_U8 },
    { "torch._utils", "_rebuild_tensor_v3", GLOBAL_TENSOR_V3, WS_DT_U8 },
    { "torch._utils", "_rebuild_parameter", GLOBAL_PARAMETER, WS_DT_U8 },
    { "torch.nn.parameter", "Parameter", GLOBAL_PARAMETER, WS_DT_U8 },
    { "torch", "Size", GLOBAL_SIZE, WS_DT_U8 },
    { "torch", "DoubleStorage", GLOBAL_STORAGE, WS_DT_F64 },
    { "torch", "FloatStorage", GLOBAL_STORAGE, WS_DT_F32 },
    { "torch", "HalfStorage", GLOBAL_STORAGE, WS_DT_F16 },
    { "torch", "BFloat16Storage", GLOBAL_STORAGE, WS_DT_BF16 },
    { "torch", "LongStorage", GLOBAL_STORAGE, WS_DT_I64 },
    { "torch", "IntStorage", GLOBAL_STORAGE, WS_DT_I32 },
    { "torch", "ShortStorage", GLOBAL_STORAGE, WS_DT_I16 },
    { "torch", "CharStorage", GLOBAL_STORAGE, WS_DT_I8 },
    { "torch", "ByteStorage", GLOBAL_STORAGE, WS_DT_U8 },
    { "torch", "BoolStorage", GLOBAL_STORAGE, WS_DT_BOOL },
    { "torch", "ComplexFloatStorage", GLOBAL_STORAGE, WS_DT_C64 },
    { "torch.storage", "UntypedStorage", GLOBAL_UNTYPED, WS_DT_U8 },
    { "torch", "float64", GLOBAL_DTYPE, WS_DT_F64 },
    { "torch", "float32", GLOBAL_DTYPE, WS_DT_F32 },
    { "torch", "float16", GLOBAL_DTYPE, WS_DT_F16 },
    { "torch", "bfloat16", GLOBAL_DTYPE, WS_DT_BF16 },
    { "torch", "float8_e4m3fn", GLOBAL_DTYPE, WS_DT_F8_E4M3 },
    { "torch", "float8_e5m2", GLOBAL_DTYPE, WS_DT_F8_E5M2 },
    { "torch", "float8_e4m3fnuz", GLOBAL_DTYPE, WS_DT_F8_E4M3FNUZ },
    { "torch", "float8_e5m2fnuz", GLOBAL_DTYPE, WS_DT_F8_E5M2FNUZ },
    { "torch", "float8_e8m0fnu", GLOBAL_DTYPE, WS_DT_F8_E8M0 },
    { "torch", "uint64", GLOBAL_DTYPE, WS_DT_U64 },
    { "torch", "uint32", GLOBAL_DTYPE, WS_DT_U32 },
    { "torch", "uint16", GLOBAL_DTYPE, WS_DT_U16 },
    { "torch", "uint8", GLOBAL_DTYPE, WS_DT_U8 },
    { "torch", "int64", GLOBAL_DTYPE, WS_DT_I64 },
    { "torch", "int32", GLOBAL_DTYPE, WS_DT_I32 },
    { "torch", "int16", GLOBAL_DTYPE, WS_DT_I16 },
    { "torch", "int8", GLOBAL_DTYPE, WS_DT_I8 },
    { "torch", "bool", GLOBAL_DTYPE, WS_DT_BOOL },
    { "torch", "complex64", GLOBAL_DTYPE, WS_DT_C64 },
};

const pickle_global *ws_pickle_global(const char *module, const char *name)
{
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strcmp(table[i].module, module) == 0 && strcmp(table[i].name, name) == 0)
            return &table[i];
    return NULL;
}
