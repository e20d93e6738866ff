# Texts: greedy, drawn, stopped, as a conversation, many at once.
M=$CASES/../../examples/models
wsurg generate "$M/sums" --prompt 'sum: 27+15 =' -q
wsurg generate "$M/sums" --prompt 'sum: 27+15 =' --echo -q
printf 'sum: 27+15 =\n' | wsurg generate "$M/sums" --prompt-file - -q
cp "$M/sums/model.safetensors" plain.safetensors
wsurg generate plain.safetensors --companions-from "$M/base" --prompt 'max: 4 9 =' -q
wsurg generate "$M/base" --prompt 'reverse: red fox dog =' --stop fox -q | od -c | head -2
wsurg generate "$M/base" --prompt 'reverse: red fox dog =' --stop 'g f' --stop nothing -q
wsurg generate "$M/base" --prompt 'reverse: red fox dog =' --max-tokens 2 -q
wsurg generate "$M/base" --prompt '' --samples 3 --temperature 1 --seed 3 -q >three
wsurg generate "$M/base" --prompt '' --samples 3 --temperature 1 --seed 3 -q -j 1 >again
cmp three again && wc -l <three
wsurg generate "$M/base" --prompt '' --samples 40 --temperature 1 -q >many.jsonl
wsurg eval "$M/base" --data many.jsonl | cut -c 1-22
# a cut to one candidate is the likeliest, whatever the seed
wsurg generate "$M/sums" --prompt 'sum: 27+15 =' --temperature 5 --top-k 1 --seed 9 -q
wsurg generate "$M/sums" --prompt 'sum: 27+15 =' --temperature 5 --top-p 0 --seed 9 -q
wsurg generate "$M/sums" --prompt 'sum: 27+15 =' --temperature 1 --min-p 1 --seed 9 -q
wsurg generate "$M/sums" --prompt 'sum: 27+15 =' --json -q >out.json
jsoncheck "$SCHEMA" out.json
sed -E 's/.*"result"://; s/seconds":[0-9.e-]+/seconds":N/g; s/second":[0-9.e+]+/second":N/; s/"run":\{"seconds":N,"threads":[1-9][0-9]*,"peak_memory_bytes":[1-9][0-9]*,"read_bytes":[1-9][0-9]*,/RUN,/' out.json
# refusals
wsurg generate "$M/base"; echo $?
wsurg generate "$M/base" --prompt a --prompt-file b; echo $?
wsurg generate "$M/base" --prompt a --samples 2; echo $?
wsurg generate "$M/base" --prompt a --chat 2>err; echo $?
sed 's,/.*/base,BASE,' err
wsurg generate "$M/base" --prompt-file nowhere; echo $?
wsurg generate "$M/base" --prompt a --chat-format zephyr --max-tokens 3 -qq >/dev/null
wsurg generate "$M/base" --prompt "$(printf 'a%.0s' $(seq 300))" 2>&1 | cut -d: -f1-3
