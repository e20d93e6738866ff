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

# an extraction: found twice where memory is short, the same bytes; killed in either pass
mkmodel tuned/ --llama 6,256,300 --update 1,0.1
set -- tuned --svd --base big --progress none
least=$(wsurg decompose "$@" --rank 24 -o x --max-memory 1MiB 2>&1 | grep -o '[0-9]*MiB$')
for what in '--rank 24' '--energy 0.4' '--budget 100000'; do
    wsurg decompose "$@" $what -o svd -q -j 1
    wsurg decompose "$@" $what -o tight --max-memory $least -q
    diff -r svd tight && echo 'short of memory: the same bytes'
    for records in 300 3500; do
        wsurg decompose "$@" $what -o cut -q -j 1 2>/dev/null &
        pid=$!
        until [ "$(stat -c %s .cut.wsurg/journal 2>/dev/null || echo 0)" -gt $records ]; do
            kill -0 $pid 2>/dev/null || break
            sleep 0.005
        done
        kill -s KILL $pid 2>/dev/null
        wait $pid 2>/dev/null
        wsurg decompose "$@" $what -o cut --resume -q
        diff -r svd cut && echo 'resumed: the same bytes'
        rm -r cut
    done
    rm -r svd tight
done
wsurg decompose "$@" --rank 4 -o svd -q
wsurg decompose "$@" --rank 4 -o svd --resume; echo $?
wsurg decompose "$@" --rank 5 -o svd --resume; echo $?
wsurg decompose "$@" --rank 4 -o few --max-memory 1MiB 2>&1 | sed 's/takes .* of/takes N of/; s/memory [0-9]*MiB/memory NMiB/'
mkmodel more/ --llama 7,256,300
wsurg decompose more --svd --base big --rank 2 -o x 2>&1 | grep represented
