# A recipe instead of flags: gradients, filters, mergekit's defaults, who said what.
mkmodel base/ --llama 3,16,32
mkmodel one/ --llama 3,16,32 --update 1,0.02
mkmodel two/ --llama 3,16,32 --update 2,0.03
cat >slerp.yml <<'END'
models:
  - model: base
  - model: one
merge_method: slerp
base_model: base
parameters:
  t:
    - filter: self_attn
      value: [0, 0.5, 1]
    - value: 0.5
dtype: bfloat16
tokenizer_source: base
END
wsurg plan slerp.yml
wsurg merge slerp.yml merged/
wsurg merge -r slerp.yml -o again; wsurg diff merged again
cat >ties.yml <<'END'
merge_method: ties
base_model: base
models:
  - model: base
  - model: one
    parameters: {weight: 0.5, density: 0.4}
  - model: two
    parameters: {weight: 1}
parameters: {int8_mask: true, normalize: false}
END
wsurg merge ties.yml ties
wsurg merge base one two --method ties --base base -q -o flags \
    --set weight=0.5,1 --set density=0.4,1 --set normalize=false
wsurg diff ties flags
wsurg plan slerp.yml --tensors --json >plan.json && jsoncheck "$SCHEMA" plan.json
wsurg plan slerp.yml --tensors | grep -A1 'layers.1.*\(q_proj\|up_proj\)'
