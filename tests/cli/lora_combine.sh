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
wsurg lora combine a b --rank 1 --json -qq -o one | sed -E 's/.*"modules"/"modules"/; s/"run".*//; s/(\.[0-9]{4})[0-9]*/\1/g'
wsurg lora combine a b --method ties --density 1 -o ties
wsurg lora combine a a --weights 1,-1 --rank 4 -o none
wsurg lora convert a --initial b -o plain
cat plain/adapter_config.json
wsurg verify plain
wsurg lora combine a b -o sum
wsurg lora combine a b --weights 1 -o x
wsurg lora combine a b --compat peft-linear -o x
wsurg lora convert a
