# Adapters combined and converted; what comes out folds to the sum.
layer=base_model.model.model.layers.0
adapter() { # NAME RANK ALPHA SEED
    mkdir $1
    echo "{\"peft_type\": \"LORA\", \"r\": $2, \"lora_alpha\": $3}" >$1/adapter_config.json
    mkmodel $1/adapter_model.safetensors $layer.self_attn.q_proj.lora_A.weight:F32:$2x16:rnd$4 \
        $layer.self_attn.q_proj.lora_B.weight:F32:16x$2:rnd$(($4 + 1))
}
adapter a 2 4 1
adapter b 3 6 5
mkmodel base.st --llama 1,16,32
wsurg lora combine a b --weights 1,1 -o sum
wsurg lora fold base.st a b -o want.st -q
wsurg lora fold base.st sum -o got.st -q
wsurg lora verify base.st a b got.st
wsurg lora combine a b --rank 5 -o five -q
wsurg lora combine a b --rank 1 --json -qq -o one | sed -E 's/.*"modules"/"modules"/; s/"run".*//; s/"rounding":[0-9.e-]*/"rounding":ROUNDING/g; s/(\.[0-9]{4})[0-9]*/\1/g'
wsurg lora combine a b --method ties --density 1 -o ties 2>&1 | sed 's/by rounding.*//'
wsurg lora combine a a --weights 1,-1 --rank 4 -o none 2>&1 | sed 's/by rounding.*//'
for method in ties dare breadcrumbs; do
    wsurg lora combine a b --method $method -j1 -o $method-1 -q
    wsurg lora combine a b --method $method -j4 --max-memory 64KiB -o $method-4 -q
    cmp $method-1/adapter_model.safetensors $method-4/adapter_model.safetensors && echo same
done
wsurg lora combine a b --max-memory 1KiB -o x; echo $?
# converted: an original's adapter names no residual; another residual's is refused
layers="$layer.self_attn.q_proj.lora_A.weight:F32:2x16:rnd1 $layer.self_attn.q_proj.lora_B.weight:F32:16x2:rnd2"
for name in r1 r2; do
    mkdir $name
    echo '{"peft_type": "LORA", "r": 2, "base_model_name_or_path": "../residual"}' >$name/adapter_config.json
    mkmodel $name/adapter_model.safetensors --meta wsurg.kind=adapter \
        --meta wsurg.residual=xxh3-128:0000000000000000000000000000000${name#r} $layers
done
wsurg lora convert r1 --initial r1 -o nothing -q
grep base_model nothing/adapter_config.json
wsurg inspect nothing | grep 'base\|lora  '
wsurg lora convert r1 --initial r2 -o x; echo $?
wsurg lora combine r1 r2 -o x; echo $?
wsurg lora combine r1 a -o x; echo $?
wsurg lora convert a --initial b -o plain
cat plain/adapter_config.json
wsurg verify plain
wsurg lora combine a b -o sum
wsurg lora combine a b --weights 1 -o x
wsurg lora combine a b --compat peft-linear -o x
wsurg lora convert a
