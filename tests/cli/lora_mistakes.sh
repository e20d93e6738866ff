# Adapters that are refused: what they hold, and what they are put on.
layer=base_model.model.model.layers.0.self_attn
mkdir a
mkmodel base.st --llama 1,16,32
make() { # CONFIG TENSOR...
    printf '%s\n' "$1" >a/adapter_config.json
    shift
    mkmodel a/adapter_model.safetensors "$@"
}
pair="$layer.q_proj.lora_A.weight:F32:2x16:1 $layer.q_proj.lora_B.weight:F32:16x2:1"
fold() { wsurg lora fold base.st a -o out.st "$@"; }
wsurg lora fold base.st base.st
fold
make '{' $pair
fold
make '{"peft_type": "LORA", "r": 2, "r": 4}' $pair
fold
make '{"peft_type": "LOHA"}' $pair
fold
make '{"peft_type": "LORA", "r": 2, "use_bdlora": {"nblocks": 2}}' $pair
fold
make '{"peft_type": "LORA", "r": 2}' $pair $layer.q_proj.oft_r:F32:2x2:1
fold
make '{"peft_type": "LORA", "r": 2, "init_lora_weights": "corda"}' $pair
fold
make '{"peft_type": "LORA", "r": 2}' --meta wsurg.kind=adapter \
    --meta wsurg.residual=xxh3-128:00000000000000000000000000000000 $pair
fold
make '{"peft_type": "LORA", "r": 2}' $layer.x_proj.lora_A.weight:F32:2x16:1 \
    $layer.x_proj.lora_B.weight:F32:16x2:1
fold
make '{"peft_type": "LORA", "r": 2}' $layer.q_proj.lora_A.weight:F32:2x16:1 \
    $layer.q_proj.lora_B.weight:F32:8x2:1
fold
make '{"peft_type": "LORA", "r": 2, "use_dora": true}' $pair \
    $layer.q_proj.lora_magnitude_vector:F32:16:1
fold --scale 0.5
wsurg lora fold base.st a a -o out.st
make '{"peft_type": "LORA", "r": 2}' $layer.q_proj.lora_A.weight:F32:2x16:nan \
    $layer.q_proj.lora_B.weight:F32:16x2:1
fold
fold --max-lost-delta lots
[ -e out.st ] || echo nothing written
