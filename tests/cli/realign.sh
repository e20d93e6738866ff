# A realignment: what is said and written, the same at any number of threads; the mask
# that it saves makes the same model; mistakes that are found before the first step.
m=$CASES/../../examples/models
i=10
while [ $i -lt 34 ]; do
    printf '{"prompt":"sum: %d+17 =","chosen":" no\\n","rejected":" %d\\n"}\n' $i $((i + 17))
    i=$((i + 1))
done >pairs.jsonl
set -- "$m/base" "$m/sums" --pairs pairs.jsonl --batch 4 --progress none
wsurg realign "$@" --steps 12 --lr 0.3 -j 1 -o one/ --save-mask one.st 2>err.txt
echo $? && sed -E 's/[0-9]\.[0-9]+ -> [0-9]\.[0-9]+/A -> B/;s/mean 0\.[0-9]+/mean M/;s/[0-9.]+ %/P %/g' err.txt
wsurg realign "$@" --steps 12 --lr 0.3 -j 2 -q -o two/ --save-mask two.st
cmp one/model.safetensors two/model.safetensors && cmp one.st two.st && echo 'same bytes'
wsurg mask apply "$m/base" "$m/sums" one.st -q -o applied/
wsurg diff applied one | tail -n 1
wsurg mask stats one.st | sed -n 1p | sed -E 's/[0-9.]+ of/N of/;s/\([0-9.]+ %\)/(P)/'
ls one

echo '- tensors that are equal stay; the mask of others'
wsurg realign "$@" --steps 2 -q --target 'layers\.0\.' -o part/
wsurg diff part "$m/base" --json | sed -E 's/.*"tensors":(\{[^}]*\}).*/\1/'
for scope in row tensor; do
    wsurg realign "$@" --steps 2 -q --mask-scope $scope --mask threshold -o $scope/ \
        --save-mask $scope.st --json | sed -E 's/.*("mask":\{[^}]*"logits":[0-9]+).*/\1/'
    wsurg mask apply "$m/base" "$m/sums" $scope.st -q -o $scope.again/
    wsurg diff $scope.again $scope | tail -n 1
done

echo '- operators, references'
set -- "$m/base" "$m/sums" "$m/sorting" --pairs pairs.jsonl --batch 4 --steps 2 -q
for op in task_arithmetic ties dare average; do
    wsurg realign "$@" --operator $op --reference fused -o $op/ -j 1
    wsurg realign "$@" --operator $op --reference fused -o $op.2/ -j 2
    cmp $op/model.safetensors $op.2/model.safetensors && echo $op
done
wsurg realign "$@" --reference authors -o authors/ --json >r.json && jsoncheck "$SCHEMA" r.json
sed -E 's/.*("operator".*"steps":[0-9]+).*/\1/' r.json

echo '- mistakes'
wsurg realign "$m/base" "$m/sums"; echo $?
wsurg realign "$m/base" "$m/base" --pairs pairs.jsonl; echo $?
wsurg realign "$@" --operator none -o x/; echo $?
wsurg realign "$@" -o one/; echo $?
wsurg realign "$@" --target nothing_such -o x/; echo $?
wsurg realign "$@" --max-memory 12MiB -o x/ 2>err.txt; echo $?
sed -E 's/[0-9.]+ MB/N MB/g' err.txt
sed 's/"chosen":" no\\n",//;s/rejected/completion/' pairs.jsonl >task.jsonl
wsurg realign "$m/base" "$m/sums" --pairs task.jsonl -o x/; echo $?
wsurg realign "$m/base" "$m/sums" --pairs pairs.jsonl --save-mask x/ -o y/; echo $?
ls -d x y 2>/dev/null
echo 'end'
