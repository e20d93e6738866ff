# Killed or asked to stop, it goes on behind the last finished matrix: the same bytes.
mkmodel big/ --llama 6,256,300
set -- big --pissa --rank 30 --progress none -j 1
wsurg decompose "$@" -o whole -q
for signal in KILL TERM; do
    out=out-$signal
    wsurg decompose "$@" -o $out -q 2>err.txt &
    pid=$!
    until [ "$(stat -c %s .$out.wsurg/journal 2>/dev/null || echo 0)" -gt 1000 ]; do
        kill -0 $pid 2>/dev/null || break
        sleep 0.01
    done
    kill -s $signal $pid
    wait $pid 2>/dev/null
    echo "$signal: $?"
    [ ! -e $out ] && [ -d .$out.wsurg ] && echo 'staged work and no output'
    wsurg decompose "$@" -o $out --resume -q --json=resumed.json
    grep -q '"resumed":[1-9]' resumed.json && echo 'matrices were there'
    diff -r whole $out && echo 'the same bytes'
    [ ! -e .$out.wsurg ] && echo 'nothing staged stays'
done
