# Vocabularies that differ: refused by name, or aligned by token under --vocab.
# tokens DIR WORD... [+ADDED...]: a tokenizer of these words and added tokens
tokens() {
    dir=$1 id=0 vocab= added=
    shift
    for word; do
        case $word in
        +*) added="$added${added:+,}{\"id\":$id,\"content\":\"${word#+}\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false,\"special\":true}" ;;
        *) vocab="$vocab${vocab:+,}\"$word\":$id" ;;
        esac
        id=$((id + 1))
    done
    printf '{"version":"1.0","added_tokens":[%s],"model":{"type":"BPE","vocab":{%s},"merges":[]}}\n' \
        "$added" "$vocab" >"$dir/tokenizer.json"
}
mkmodel base/ --llama 1,4,5
mkmodel a/ --llama 1,4,5 --update 1,0.02
mkmodel b/ --llama 1,4,6 --update 2,0.02
tokens base x y z +'<s>' +'<pad>'
tokens a x y z +'<s>' +'<im>'
tokens b x y w z +'<s>' +'<im>'
wsurg merge base b a --method linear -o out; echo $?
wsurg merge base a --method linear -o rows -q; echo $?
wsurg merge base a --method linear -o rows2; echo $?
wsurg merge --base base a b --method ties --vocab union -o union/ 2>err; echo $?
sed -n '/^vocabulary/p' err
cat union/tokenizer.json
grep vocab union/config.json
wsurg merge base a b --method linear --vocab base -o based/ -q; echo $?
wsurg merge base a b --method linear --vocab common -o common/ -q; echo $?
cat common/tokenizer.json
grep vocab common/config.json
wsurg merge base a b --method linear --vocab pad -o pad/ -q; echo $?
cmp base/tokenizer.json pad/tokenizer.json && grep vocab pad/config.json
wsurg plan --base base a b --method ties --vocab union | grep -E '^(vocab|output)'
wsurg plan --base base a b --method ties --vocab union --json >plan.json
jsoncheck "$SCHEMA" plan.json && wsurg plan --base base a b --method ties --vocab union --json | grep -o '"vocabulary":{.*}' |
    sed 's/}.*/}/'
cat >r.yml <<'END'
models: [{model: a}, {model: b}]
merge_method: linear
base_model: base
parameters: {weight: 0.5}
tokenizer:
  source: union
  pad_to_multiple_of: 8
  tokens:
    <new>: {source: {kind: model_token, model: b, token: <im>}}
    <pad>: {source: {kind: zero}, force: true}
chat_template: chatml
END
wsurg merge r.yml padded/ -q; echo $?
grep vocab padded/config.json
grep -c im_start padded/tokenizer_config.json padded/chat_template.jinja
for k in -j1 -j2 '--max-memory 20MiB'; do wsurg merge r.yml same/ -q --force $k; sha256sum <same/model.safetensors; done | sort -u | wc -l
wsurg merge r.yml no --vocab base; echo $?
sed -e 's/model: b, token: <im>/model: a, token: w/' r.yml >gone.yml
wsurg merge gone.yml no; echo $?
cat >wrong.yml <<'END'
models: [{model: a}, {model: b}]
merge_method: linear
tokenizer_source: union
tokenizer:
  sauce: union
  pad_to_multiple_of: none
  tokens:
    x: {source: {kind: nil}}
    y: {source: {kind: model_token, model: b}}
    z: {source: c}
    w: {forced: true}
chat_template: chatml2
END
wsurg merge wrong.yml no; echo $?
sed -i /tokenizer_source/d wrong.yml
wsurg merge wrong.yml no; echo $?
rm b/tokenizer.json
wsurg merge base b --method linear -o no; echo $?
rm base/tokenizer.json
wsurg merge base b --method linear --vocab union -o no; echo $?
