# Coefficients of two fine-tunes: what is said and written, the same at any number of
# threads, and mistakes that are found before anything is read.
m=$CASES/../../examples/models
i=10
while [ $i -lt 90 ]; do
    printf '{"prompt":"sum: %d+17 =","completion":" %d\\n"}\n' $i $((i + 17))
    i=$((i + 1))
done >sums.jsonl
printf '%s\n' 'sort: dbca = abcd' 'sort: hgfe = efgh' 'sort: bdac = abcd' >sort.txt
set -- "$m/base" "$m/sums" "$m/sorting" --data sums=sums.jsonl --data sort=sort.txt \
    --steps 12 --batch 4 --seq 64 --lr 0.1 --progress none
wsurg learn --atlas "$@" -j 1 -o one.json 2>err.txt
echo $? && sed -E 's/[0-9]+\.[0-9]{4}/N/g' err.txt
wsurg learn --atlas "$@" -j 2 -q -o two.json && cmp one.json two.json && echo 'same bytes'
grep -o '"name": "[a-z]*"' one.json
grep -c '^\[' one.json
wsurg learn --atlas "$@" --force -q --json -o one.json |
    sed -E 's/"loss_(before|after)":([0-9.]+)/"loss_\1":\2\n/g' |
    sed -n 's/.*"name":"\([a-z]*\)".*"loss_before":\([0-9.]*\)/\1 before \2/p;s/.*"loss_after":\([0-9.]*\)/after \1/p' |
    awk '/before/ { b = $3; name = $1 } /after/ { print name, $2 < b ? "is better" : "is not better" }'

echo '- baked: the same merge, whoever makes it'
wsurg learn --atlas "$@" -q -o again.json --bake baked/; echo $?
wsurg merge --base "$m/base" "$m/sums" "$m/sorting" --coefficients again.json -q -o merged/
cmp baked/model.safetensors merged/model.safetensors && echo 'same bytes'
wsurg plan --base "$m/base" "$m/sorting" "$m/sums" --coefficients again.json; echo $?
wsurg plan --base "$m/base" "$m/sums" --coefficients again.json; echo $?
wsurg plan --base "$m/base" "$m/sums" "$m/sorting" --method ties --coefficients again.json
echo $?
echo '{"schema":"other"}' >bad.json
wsurg plan --base "$m/base" "$m/sums" --coefficients bad.json; echo $?
sed 's/"blocks": \[/"blocks": [ "no.such",/' again.json >bad.json
wsurg plan --base "$m/base" "$m/sums" "$m/sorting" --coefficients bad.json; echo $?

echo '- models of one name: labels as a merge gives them'
mkdir one two && cp -r "$m/sums" one/tuned && cp -r "$m/sorting" two/tuned
wsurg learn --atlas "$m/base" one/tuned two/tuned --data sort=sort.txt --steps 1 --seq 64 \
    --progress none -q -o equal.json --bake equal/; echo $?
grep -o '"name": "tuned-[0-9]"' equal.json

echo '- mistakes'
wsurg learn --atlas "$@" -o one.json; echo $?
wsurg learn --atlas "$m/base" "$m/sums"; echo $?
wsurg learn "$m/base" "$m/sums" --data a=sort.txt; echo $?
wsurg learn --atlas "$m/base" "$m/sums" --data a=sort.txt --negate b; echo $?
wsurg learn --atlas "$m/base" "$m/sums" --data a=sort.txt --target nothing_such; echo $?
wsurg learn --atlas "$m/base" "$m/base" --data a=sort.txt; echo $?
wsurg learn --atlas "$m/base" "$m/sums" --data a=sort.txt --max-memory 2MiB; echo $?
wsurg learn --atlas "$m/base" "$m/sums" --data a=sort.txt --negate a; echo $?
rm -r one two baked merged equal
ls
