# Several documents: what one names as a model is another's result, made while it is
# read; the bytes are those of the merges run one by one.
mkmodel base/ --llama 4,48,96
mkmodel one/ --llama 4,48,96 --update 1,0.02
mkmodel two/ --llama 4,48,96 --update 2,0.03
mkmodel three/ --llama 4,48,96 --update 3,0.03
cat >chain.yml <<'END'
name: pruned
merge_method: ties
base_model: base
models:
  - {model: one, parameters: {weight: 0.5, density: 0.4}}
  - {model: two, parameters: {weight: 0.5, density: 0.3}}
dtype: bfloat16
---
name: tall
merge_method: passthrough
slices:
  - sources: [{model: pruned, layer_range: [0, 3]}]
  - sources: [{model: pruned, layer_range: [2, 4]}]
---
name: tall-three
merge_method: passthrough
slices:
  - sources: [{model: three, layer_range: [0, 3]}]
  - sources: [{model: three, layer_range: [2, 4]}]
---
merge_method: slerp
base_model: tall
models: [{model: tall-three}]
parameters:
  t: [{filter: mlp, value: [0, 1]}, {value: 0.4}]
END
csplit -sz -f doc chain.yml '/^---$/' '{*}'
wsurg merge chain.yml out/
mkdir alone && for i in 0 1 2 3; do
    sed -e /^---/d -e '/^name:/d' doc0$i |
        sed -e 's/: pruned/: alone\/pruned/' -e 's/: tall-three/: alone\/three/' \
            -e 's/: tall$/: alone\/tall/' >doc.yml
    wsurg merge doc.yml alone/$(echo pruned tall three last | cut -d' ' -f$((i + 1))) -q
done
wsurg diff out alone/last
cmp out/config.json alone/last/config.json
for how in '-j 1' '-j 2' '--max-memory 24MiB' '--shard-size 20kB'; do
    wsurg merge chain.yml again/ -q $how && wsurg diff out again | tail -1
    rm -rf again
done
wsurg plan chain.yml | grep -v '^cost\|^memory'
wsurg plan chain.yml --tensors --json >plan.json && jsoncheck "$SCHEMA" plan.json
wsurg merge chain.yml one 2>&1 | sed 's/, .*//'
# random methods draw as they would alone; a result used twice is made once a slice
cat >diamond.yml <<'END'
name: a
merge_method: dare_ties
base_model: base
models: [{model: one, parameters: {weight: 1, density: 0.5}}]
---
name: b
merge_method: task_arithmetic
base_model: base
models: [{model: a, parameters: {weight: 0.5}}, {model: two, parameters: {weight: 1}}]
---
merge_method: model_stock
base_model: base
models: [{model: a}, {model: b}, {model: three}]
END
wsurg merge diamond.yml out2 -q
csplit -sz -f one diamond.yml '/^---$/' '{*}'
wsurg merge -r one00 -o a -q && sed /^---/d one01 >b.yml && wsurg merge b.yml b/ -q &&
    sed /^---/d one02 >c.yml && wsurg merge c.yml c/ -q && wsurg diff out2 c
# mistakes of all documents in one report
cat >bad.yml <<'END'
name: x
merge_method: tise
models: [{model: x}]
---
name: x
merge_method: linear
models: [{model: y, parameters: {wait: 1}}]
---
merge_method: linear
models: [{model: one, parameters: {weight: 1}}]
---
merge_method: linear
models: [{model: one, parameters: {weight: 1}}]
END
wsurg plan bad.yml; echo $?
printf 'name: a\nmerge_method: linear\nmodels: [{model: b, parameters: {weight: 1}}]
---\nname: b\nmerge_method: linear\nmodels: [{model: a, parameters: {weight: 1}}]\n' >loop.yml
wsurg plan loop.yml; echo $?
printf 'name: a\nmerge_method: linear\nmodels: [{model: one, parameters: {weight: 1}}]
---\nname: b\nmerge_method: linear\nmodels: [{model: one, parameters: {weight: 1}}]\n' >two.yml
wsurg plan two.yml; echo $?
sed '/^name: b/d' two.yml >unused.yml
wsurg plan unused.yml; echo $?
printf 'name: a\nmerge_method: ties\nbase_model: base\nmodels: [{model: none}, {model: one}]
parameters: {weight: 1}\n---\nmerge_method: linear\nmodels: [{model: a}, {model: nor}]
parameters: {weight: 1}\n' >absent.yml
wsurg plan absent.yml; echo $?
