# Intruder dimensions: counted by inspect, scaled down by soften.
layer=base_model.model.model.layers
mkmodel base/ --llama 2,16,32
mkdir a
echo '{"peft_type": "LORA", "r": 2, "lora_alpha": 4, "use_rslora": true, "bias": "all",
    "modules_to_save": ["lm_head"], "alpha_pattern": {"down_proj": 8}}' >a/adapter_config.json
mkmodel a/adapter_model.safetensors $layer.0.self_attn.q_proj.lora_A.weight:F32:2x16:rnd1 \
    $layer.0.self_attn.q_proj.lora_B.weight:F32:16x2:rnd2 \
    $layer.1.mlp.down_proj.lora_A.weight:BF16:2x32:rnd3 \
    $layer.1.mlp.down_proj.lora_B.weight:BF16:16x2:rnd4 \
    base_model.model.lm_head.weight:F32:32x16:rnd5
wsurg inspect a
wsurg inspect a --intruders base --tensors | sed -E '/^(F32|BF16)/d; s/: s .*//; s/(\.[0-9]{2})[0-9]*/\1/g'
wsurg inspect a --intruders base --json -qq >a.json
jsoncheck "$SCHEMA" a.json
sed -E 's/.*"adapter"/"adapter"/; s/(\.[0-9]{3})[0-9]*/\1/g; s/"run".*//' a.json
wsurg inspect base --intruders base
wsurg lora soften base a --lambda 0.5 -o gentle --tensors | sed -E 's/(\.[0-9]{2})[0-9]*/\1/g'
wsurg lora soften base a --lambda 1 -o same -q
wsurg diff base+a base+same | head -1
wsurg verify gentle | tail -1
wsurg inspect gentle | grep -v '^metadata'
wsurg lora soften base a --below 0 -o none --json -qq | sed 's/.*"modules"/"modules"/; s/"run".*//'
wsurg diff a none | head -1
wsurg lora soften base a; echo $?
wsurg lora soften base a -o gentle; echo $?
wsurg lora soften a a -o x; echo $?
wsurg lora soften base a --max-memory 1KiB -o x; echo $?
# an adapter is no model, and says so
wsurg merge a base --method linear -o x; echo $?
wsurg diff a a
