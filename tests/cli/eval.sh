# Losses, questions, pairs, refusals. Figures are cut to two decimals: the last digits are
# the processor's.
M=$CASES/../../examples/models
cp -r "$M/base" lm && cp -r "$M/sums" sums && chmod -R u+w lm sums
cut2() { sed -E 's/([0-9]\.[0-9]{2})[0-9]+/\1/g'; }
printf 'sum: %s\n' '27+15 = 42' '30+41 = 71' '8+5 = 13' '99+1 = 100' '12+12 = 24' >sums.txt
for i in 1 2 3 4 5 6; do cat sums.txt; done >held.txt
wsurg eval lm sums --data held.txt --data first=sums.txt --against lm --window 32 | cut2
wsurg eval sums --data held.txt --window 32 --stride 8 --bos none | cut2
wsurg eval sums --data held.txt --window 32 --limit 40 | cut2
# a plain file with its companions, and completions only
cat >held.jsonl <<'END'
{"prompt":"sum: 27+15 =","completion":" 42\n"}
{"prompt":"sum: 31+40 =","completion":" 71\n"}
END
wsurg eval sums/model.safetensors --companions-from lm --data held.jsonl | cut2
wsurg eval sums --data held.jsonl --loss all | cut2
# multiple choice
cat >quiz.jsonl <<'END'
{"context":"sum: 27+15 =","choices":[" 41\n"," 42\n"," 43\n"],"gold":1}
{"context":"sum: 30+41 = ","choices":["71\n","17\n"],"gold":0}
{"context":"max: 12 99 =","choices":[" 12\n"," 99\n"],"gold":1}
END
wsurg eval lm sums --data quiz.jsonl | cut2
wsurg eval lm sums --data quiz.jsonl --data held.txt --json >out.json
jsoncheck "$SCHEMA" out.json
grep -q '"run":{"seconds":[0-9.e-]*,"threads":[1-9][0-9]*,"peak_memory_bytes":[1-9][0-9]*,"read_bytes":[1-9][0-9]*,"written_bytes":0}}' out.json && echo run
grep -o '"label":"[a-z]*"\|"name":"[a-z]*"\|"questions":[0-9a-z]*\|"window":[0-9]*' out.json
# refusals
wsurg eval lm; echo $?
wsurg eval lm --data nowhere.txt; echo $?
wsurg eval sums/model.safetensors --data held.txt --window 64 | cut2
rm sums/config.json
wsurg eval sums/model.safetensors --data held.txt; echo $?
printf '{"context":"a","choices":["b"],"gold":1}\n' >bad.jsonl
wsurg eval lm --data bad.jsonl; echo $?
printf '{"messages":[{"role":"user","content":"a"}]}\n' >chat.jsonl
wsurg eval lm --data chat.jsonl; echo $?
wsurg eval lm --data chat.jsonl --chat-format nope; echo $?
wsurg eval lm --data chat.jsonl --chat-format vicuna | cut2
# a file that holds more than its config says
cp -r "$M/base" short && chmod -R u+w short
sed -i 's/"num_hidden_layers": *5/"num_hidden_layers":4/' short/config.json
wsurg eval short --data sums.txt --window 32 --json=short.json >/dev/null; echo $?
wsurg eval short --data sums.txt --strict 2>/dev/null; echo $?
wsurg generate short --prompt a --strict 2>/dev/null; echo $?
grep -o '"warnings":\[{"code":"[a-z-]*"' short.json
# a key of config.json that nobody knows, and one that is known to matter
cp -r "$M/base" odd && chmod -R u+w odd
sed -i '0,/{/s//{"mood":"blue",/' odd/config.json
wsurg eval odd --data sums.txt --window 32; echo $?
wsurg eval odd --data sums.txt --window 32 --lenient | cut2
wsurg generate odd --prompt 'sum: 27+15 =' --lenient --strict; echo $?
sed -i 's/"mood":"blue"/"logit_scale":0.5/' odd/config.json
wsurg eval odd --data sums.txt --window 32 --lenient; echo $?
# a gate on the loss
cp -r "$M/sums" tuned
wsurg check tuned --against lm --data held.txt --max-loss-rise 900% | cut2; echo $?
wsurg check lm --against tuned --data quiz.jsonl --data held.jsonl --max-loss-rise 0 |
    sed -E 's/[0-9]+\.[0-9]+/R/'
wsurg check lm --against tuned --data held.jsonl --max-loss-rise 2% >/dev/null; echo $?
wsurg check lm --data held.jsonl --max-loss-rise two; echo $?
