# Stacked layers: renumbered, config.json says how many, each with its own parameters.
mkmodel a/ --llama 4,16,32
mkmodel b/ --llama 4,16,32 --update 1,0.02
sed -e 's/"num_hidden_layers": *[0-9]*/"num_hidden_layers": 4, "layer_types": ["p", "q", "r", "s"]/' \
    a/config.json >c && mv c a/config.json
cat >stack.yml <<'END'
merge_method: passthrough
slices:
  - sources: [{model: a, layer_range: [0, 3]}]
  - sources:
      - model: b
        layer_range: [1, 4]
        parameters: {scale: [{filter: o_proj, value: 0}, {value: 1}]}
END
wsurg merge stack.yml stacked
grep -o '"num_hidden_layers[^]]*]' stacked/config.json
wsurg plan stack.yml --tensors | grep -A1 'layers.3.*\(o_proj\|up_proj\)'
cat >same.yml <<'END'
merge_method: slerp
base_model: a
slices:
  - sources: [{model: b, layer_range: [0, 4]}, {model: a, layer_range: [0, 4]}]
parameters: {t: [0, 1]}
END
sed -e 's/, layer_range: \[0, 4\]//g' -e 's/- sources/@/' same.yml | sed -e '/slices/d' -e 's/ *@/models/' >whole.yml
wsurg merge -q same.yml same && wsurg merge -q whole.yml whole && wsurg diff same whole
sed -e 's/\[1, 4\]/[2, 5]/' stack.yml >far.yml
wsurg merge far.yml far; echo $?
