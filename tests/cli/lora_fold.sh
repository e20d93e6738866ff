# Adapters folded: file and directory, scale, gate, MODEL+ADAPTER, the fold verified.
layer=base_model.model.model.layers.0
mkdir a b
mkmodel a/adapter_model.safetensors $layer.self_attn.q_proj.lora_A.weight:F32:2x16:rnd1 \
    $layer.self_attn.q_proj.lora_B.weight:F32:16x2:rnd2
mkmodel b/adapter_model.safetensors $layer.mlp.down_proj.lora_A.weight:F32:1x32:rnd1 \
    $layer.mlp.down_proj.lora_B.weight:F32:16x1:rnd2 \
    base_model.model.lm_head.weight:F32:32x16:rnd3
echo '{"peft_type": "LORA", "r": 2, "lora_alpha": 1}' >a/adapter_config.json
echo '{"peft_type": "LORA", "r": 1, "lora_alpha": 0.25, "modules_to_save": ["lm_head"]}' \
    >b/adapter_config.json
mkmodel base/ --llama 2,16,32
mkmodel base.st --llama 2,16,32 --dtype BF16
wsurg lora fold base a b -o both
wsurg lora verify base a b both
wsurg diff base+a+b both
wsurg lora fold base.st a
wsurg lora verify base.st a folded.safetensors
wsurg lora verify base.st b folded.safetensors -q
echo "exit $?"
wsurg lora fold base.st a -o big.st --max-lost-delta 1e-9
echo "exit $?"
[ -e big.st ] || echo nothing written
wsurg lora fold base.st a -o big.st --max-lost-delta 50% -q
wsurg merge base.st+a base.st+b --base base.st --method ties --on-missing base -o merged.st -q
wsurg lora fold base a --scale 0.5 -o half --json -qq --manifest none --no-provenance |
    sed 's/.*"adapters"/"adapters"/; s/"run".*//'
wsurg lora fold base.st a --tensors -o shown.st 2>&1 | grep 'lost to\|replaced$' | sed -E 's/(\.[0-9]{2})[0-9]*/\1/g'
wsurg lora fold base b --tensors -o shown 2>&1 | grep 'lost to\|replaced$' | sed -E 's/(\.[0-9]{2})[0-9]*/\1/g'
wsurg lora fold base.st a -j1 --max-memory 24MiB -o - -q | cmp - folded.safetensors && echo same
wsurg lora merge base.st a
