# map: a model's tensors under other names; a base of its own for a slice; coefficients
mkmodel base/ --llama 3,16,32
mkmodel one/ --llama 3,16,32 --update 1,0.02
mkmodel two/ --llama 3,16,32 --update 2,0.03
# the same model inside another one: names with a prefix, as multimodal models have them
cat >wrap.yml <<'END'
merge_method: passthrough
models: [{model: one, map: {"model.": "language_model.model.", "lm_head": "language_model.lm_head"}}]
END
wsurg merge wrap.yml wrapped -q && wsurg plan wrap.yml --tensors | grep 'norm.weight' | tail -1
cat >map.yml <<'END'
merge_method: ties
base_model: base
models:
  - {model: wrapped, map: {"language_model.": ""}, parameters: {weight: 1, density: 0.5}}
  - {model: two, parameters: {weight: 0.5, density: 0.5}}
END
sed 's/wrapped, map: {[^}]*}/one/' map.yml >plain.yml
wsurg merge map.yml out -q && wsurg merge plain.yml plain -q && wsurg diff out plain
sed 's/language_model/vision/' map.yml >none.yml; wsurg plan none.yml; echo $?
sed 's/{"language_model.": ""}/{"language_model.model.": "", "language_model.lm_head": "norm"}/' map.yml >twice.yml
wsurg plan twice.yml; echo $?
# each slice has its own base
cat >bases.yml <<'END'
merge_method: task_arithmetic
base_model: base
slices:
  - sources:
      - {model: base, layer_range: [0, 2]}
      - {model: one, layer_range: [0, 2], parameters: {weight: 2}}
  - base_model: one
    sources:
      - {model: base, layer_range: [2, 3], parameters: {weight: 2}}
      - {model: one, layer_range: [2, 3]}
END
wsurg plan bases.yml --tensors | grep -A1 'layers.[12].*q_proj\|^lm_head'
wsurg merge bases.yml bases -q
wsurg merge base one --method task_arithmetic --base base --set weight=2 -o forth -q
wsurg merge one base --method task_arithmetic --base one --set weight=2 -o back -q
changed() {
    wsurg diff bases $1 --json --tensors | tr '{' '\n' |
        sed -n 's/^"tensor":"\([^"]*\)".*"changed".*/\1/p' | grep "layers.$2" | sort -u
}
changed forth '[01]'; changed back 2
# learned coefficients, as --coefficients takes them
cat >coefficients.json <<'END'
{"schema": "wsurg-coefficients/1", "task_vectors": [{"name": "one"}, {"name": "two"}],
 "blocks": ["lm_head.weight", "model.layers.1.mlp.up_proj.weight"], "lambda": [[0.5, 0.25], [2, -1]]}
END
cat >learned.yml <<'END'
merge_method: task_arithmetic
base_model: base
models: [{model: one}, {model: two}]
coefficients: coefficients.json
END
wsurg plan learned.yml --tensors | grep -A1 '^lm_head\|layers.1.mlp.\(up\|gate\)'
wsurg merge learned.yml learned -q
wsurg merge base one two --base base --coefficients coefficients.json -o typed -q
wsurg diff learned typed
wsurg plan learned.yml --coefficients coefficients.json; echo $?
