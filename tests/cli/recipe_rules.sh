# rules: by tensor name another method, a copy, or nothing; the first that fits holds.
mkmodel base/ --llama 3,16,32
mkmodel one/ --llama 3,16,32 --update 1,0.02
mkmodel two/ --llama 3,16,32 --update 2,0.03
cat >rules.yml <<'END'
merge_method: task_arithmetic
base_model: base
models:
  - {model: one, parameters: {weight: 0.5}}
  - {model: two, parameters: {weight: 0.25, density: 0.5}}
rules:
  - {match: "*.layers.2.input_layernorm.weight", drop: true}
  - {regex: "norm", copy: base}
  - {match: "*.embed_tokens.*", copy: two}
  - match: "*.mlp.*"
    method: ties
    parameters: {density: [0.25, 0.75], weight: [{filter: gate, value: 2}]}
  - {regex: '^lm_head', method: linear}
  - {match: "*.q_proj.*", parameters: {weight: 1}}
END
wsurg plan rules.yml | grep -v '^cost\|^memory\|^output'
wsurg plan rules.yml --tensors | grep -A2 'layers.1.\(mlp.gate\|mlp.down\|.*q_proj\|.*norm\)\|embed\|lm_head'
wsurg plan rules.yml --tensors --json >plan.json && jsoncheck "$SCHEMA" plan.json
wsurg merge rules.yml out/ -q && wsurg verify out | head -1
wsurg merge rules.yml two-threads/ -q -j 2 --max-memory 20MiB && wsurg diff out two-threads
# each part is that of the recipe that says it for all
changed() {
    wsurg diff out $1 --json --tensors | tr '{' '\n' |
        sed -n 's/^"tensor":"\([^"]*\)".*"changed".*/\1/p' | grep -v 'layers.[02]' | grep "$2" | sort -u
}
wsurg merge base one two --method task_arithmetic --set weight=0.5,0.25 -o all/ -q --base base
wsurg merge one two --method linear --set weight=0.5,0.25 -o mean/ -q
changed all .
changed base norm; changed two embed; changed mean lm_head
sed -e 's/copy: two/copy: three/' -e 's/method: ties/method: tyes/' \
    -e 's/match: "\*.q_proj.\*"/regex: "q_proj("/' -e 's/drop: true/drop: maybe/' rules.yml >bad.yml
wsurg plan bad.yml; echo $?
sed -e 's/"\*.mlp.\*"/mlp/' rules.yml >none.yml
wsurg plan none.yml; echo $?
cat >more.yml <<'END'
merge_method: linear
models: [{model: one}, {model: two}]
parameters: {weight: 1}
rules:
  - {match: "*", method: ties}
  - {copy: base}
  - {match: "a", regex: "b", copy: one}
  - {match: "*", copy: base}
  - {match: "*", drop: true, method: slerp}
  - {match: "*"}
  - {match: "*", drop: true, parameters: {weight: 1}, to: two}
END
wsurg plan more.yml; echo $?
