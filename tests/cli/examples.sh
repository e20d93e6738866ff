# Every example of the option tables does what it says. Only failures are printed.
mkdir room && cd room
mkmodel a.st --llama 3,16,32
mkmodel b.st --llama 3,16,32 --update 1,0.02
mkmodel c.st --llama 3,16,32 --update 2,0.03
mkmodel base/ --llama 3,16,32 --dtype BF16
mkmodel tuned/ --llama 3,16,32 --dtype BF16 --update 1,0.05
mkmodel other/ --llama 3,16,32 --dtype BF16 --update 2,0.05
printf '{"prompt":"sum: %d+1 =","completion":" %d\\n"}\n' 1 2 2 3 3 4 >pairs.jsonl
sed 's/"completion"/"rejected"/;s/}$/,"chosen":" no\\n"}/' pairs.jsonl >refuse.jsonl
sed 's/.*sum/sum/;s/".*:"//;s/\\.*//' pairs.jsonl >text.txt
wsurg mask lt-sft base tuned --share 0.1 -qq -o m.st
wsurg mask lt-sft base other --share 0.1 -qq -o n.st
wsurg merge a.st b.st --method linear -qq -o merged.safetensors
wsurg merge base tuned --method linear -qq -o merged
wsurg taskvec extract base tuned -qq -o t.st
wsurg taskvec extract a.st b.st -qq -o u.st
wsurg taskvec extract a.st c.st -qq -o v.st
for name in math code; do
    layer=base_model.model.model.layers.0.self_attn.q_proj
    mkdir $name
    echo '{"peft_type": "LORA", "r": 2, "lora_alpha": 2}' >$name/adapter_config.json
    mkmodel $name/adapter_model.safetensors $layer.lora_A.weight:F32:2x16:rnd$(expr length $name) \
        $layer.lora_B.weight:F32:16x2:rnd9
done
wsurg lora fold base math -qq -o folded
for name in base:lm sums:sums; do
    cp -r "$CASES/../../examples/models/${name%:*}" "${name#*:}"
done
for i in 1 2 3 4 5 6 7 8 9; do printf 'sum: %s+15 = %s\n' $i $((i + 15)); done >held.txt
echo '{"context":"max: 4 9 =","choices":[" 4"," 9"],"gold":1}' >quiz.jsonl
cat >recipe.yml <<'END'
merge_method: slerp
base_model: base
models: [{model: base}, {model: tuned}]
parameters: {t: [{filter: self_attn, value: [0, 1]}, {value: 0.5}]}
END
cd ..
wsurg gen examples | while read -r line; do
    cp -r room try
    case $line in 'wsurg merge '*) rm -r try/merged* ;; esac
    (cd try && sh -c "$line") >out.txt 2>err.txt </dev/null || {
        echo "exit $?: $line"
        cat err.txt
    }
    rm -rf try
done
