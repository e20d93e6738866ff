# recipe check, format and convert: from options and back, the same merge
mkmodel base/ --llama 3,16,32
mkmodel one/ --llama 3,16,32 --update 1,0.02
mkmodel two/ --llama 3,16,32 --update 2,0.03
set -- base one two --method ties --set weight=0.5,0.25 --set density.one=0.4 \
    --lines 0.5,0.5 --dtype bf16
wsurg recipe convert "$@" | tee ties.yml
wsurg merge "$@" -q -o typed && wsurg merge ties.yml written -q && wsurg diff typed written
wsurg recipe convert ties.yml | tee line.sh
sh -c "$(cat line.sh) -q -o back" && wsurg diff typed back
for method in linear slerp "dare_ties --seed 5" "della --base base" karcher; do
    case $method in slerp) set -- base one ;; *) set -- base one two ;; esac
    wsurg recipe convert "$@" --method $method -q >r.yml &&
        wsurg merge "$@" --method $method -qq -o a && wsurg merge r.yml b -qq &&
        sh -c "$(wsurg recipe convert r.yml) -qq -o c" &&
        wsurg diff a b >/dev/null && wsurg diff a c >/dev/null && echo "$method: the same"
    rm -rf a b c
done
cat >loose.yml <<'END'
# a comment
dtype: bfloat16
parameters: &p
    t:
    - filter: self_attn
      value: [0, 0.5, 1]
    - value: '0.5'
merge-method: slerp
models:
- model: base
- model: "C:\\models\\it's"
  parameters: {}
base_model: base
chat_template:
---
merge_method: linear
models: [{model: one, parameters: {weight: 1, long: "a very long value, so that it does not fit into one line"}}]
extra: {b: [1, [2, "x\ny"]], *a : 2}
END
sed -i 's/, \*a : 2//' loose.yml
wsurg recipe format loose.yml | tee once.yml; wsurg recipe format once.yml | cmp - once.yml
wsurg recipe check ties.yml loose.yml; echo $?
wsurg recipe check ties.yml --json | sed 's/"run":.*//' | grep -o '"result".*'
ln -s "$CASES/../../examples" examples
for r in examples/recipes/*.yml; do
    wsurg recipe check $r -q >/dev/null && wsurg recipe format $r >again.yml &&
        wsurg recipe check again.yml -q >/dev/null || echo "failed: $r"
done
wsurg recipe convert examples/recipes/slerp.yml; echo $?
wsurg recipe convert examples/recipes/ties.yml -q
sed '$a tokenizer_source: union' ties.yml >union.yml; wsurg recipe convert union.yml; echo $?
