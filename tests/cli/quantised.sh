# Quantised models: known by name, passed through, FP8 read as numbers where asked.
st() { # FILE JSON DATA: a safetensors file, DATA for printf
    n=${#2}
    printf "\\$(printf %03o $((n % 256)))\\$(printf %03o $((n / 256)))\\0\\0\\0\\0\\0\\0%s$3" "$2" >"$1"
}
# 3 x 4, E4M3: 1.5 is 0x3c, 2 is 0x40, -1 is 0xb8, 448 is 0x7e; blocks of 2 x 2
mkdir fp8; st fp8/model.safetensors '{"w":{"dtype":"F8_E4M3","shape":[3,4],"data_offsets":[0,12]},"w_scale_inv":{"dtype":"F32","shape":[2,2],"data_offsets":[12,28]},"n":{"dtype":"F32","shape":[1],"data_offsets":[28,32]}}' \
    '\074\100\074\100\270\176\270\176\074\074\074\074\000\000\000\100\000\000\200\077\000\000\000\077\000\000\200\100\000\000\200\077'
echo '{"model_type": "llama", "quantization_config": {"quant_method": "fp8", "weight_block_size": [2, 2]}, "torch_dtype": "bfloat16"}' >fp8/config.json
wsurg merge fp8 --method linear -o out; echo $?
wsurg merge fp8 fp8 --method linear --dequantise -o out -qq; echo $?
cat out/config.json; wsurg inspect out --stats --tensors | grep ' [wn] '
od -An -tf4 -w16 --skip-bytes=$(($(od -An -tu8 -N8 out/model.safetensors) + 12)) out/model.safetensors
wsurg convert fp8 -o same -q --no-provenance && cmp fp8/config.json same/config.json && wsurg diff fp8 same | head -n 1
wsurg convert fp8 --dtype bf16 -o x; echo $?
wsurg convert fp8 --dequantise --dtype bf16 -o bf -qq && cat bf/config.json && wsurg inspect bf | grep BF16
wsurg taskvec extract fp8 fp8 -o x.st; echo $?
wsurg check fp8 --finite | head -n 1
# one scale for all, and one for each row
st t.st '{"a.weight":{"dtype":"F8_E5M2","shape":[2,2],"data_offsets":[0,4]},"a.weight_scale":{"dtype":"F32","shape":[],"data_offsets":[4,8]},"a.input_scale":{"dtype":"F32","shape":[],"data_offsets":[8,12]}}' \
    '\074\100\074\274\000\000\000\100\000\000\000\100'
wsurg convert t.st --dequantise -o t32.st -q --no-provenance && tail -c 16 t32.st | od -An -tf4 && wsurg inspect t32.st | head -n 2
st r.st '{"a.weight":{"dtype":"F8_E5M2","shape":[2,2],"data_offsets":[0,4]},"a.weight_scale":{"dtype":"F32","shape":[2,1],"data_offsets":[4,12]}}' \
    '\074\100\074\274\000\000\000\100\000\000\100\100'
wsurg convert r.st --dequantise -o r32.st -q --no-provenance && tail -c 16 r32.st | od -An -tf4
st bad.st '{"a.weight":{"dtype":"F8_E5M2","shape":[5,2],"data_offsets":[0,10]},"a.weight_scale":{"dtype":"F32","shape":[3,2],"data_offsets":[10,34]}}' \
    '0123456789012345678901234567890123'
wsurg convert bad.st --dequantise -o x.st; echo $?
# others by name
for m in gptq awq bitsandbytes mxfp4 hqq; do
    mkdir $m; mkmodel $m/model.safetensors a.qweight:I32:2x2:1 a.scales:F16:2:1
    echo "{\"quantization_config\": {\"quant_method\": \"$m\"}}" >$m/config.json
    wsurg merge $m --method linear -o x; echo $?
    wsurg convert $m --dequantise -o x; echo $?
    wsurg convert $m -o $m.st -q --no-provenance && wsurg diff $m/model.safetensors $m.st | head -n 1
done
mkmodel g.st a.qweight:I32:2x2:1 a.g_idx:I32:2:1; wsurg merge g.st --method linear -o x; echo $?
mkmodel b.st a.weight:U8:2x2:1 a.weight.absmax:F32:2:1; wsurg merge b.st --method linear -o x; echo $?
