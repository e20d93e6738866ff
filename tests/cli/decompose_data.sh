# Calibrated on the way: the bytes of calibrate and decompose apart. The adapter goes on
# its residual and on nothing else. Finished, and killed runs that go on.
cp -r "$CASES/../../examples/models/base" lm
seq 1 400 >text.txt
set -- lm --corda --mode kpm --rank 4
data='--samples 6 --seq 32 --seed 3'
wsurg calibrate lm --data text.txt $data -o cov.st -q
wsurg decompose "$@" --seed 3 --cov cov.st -o apart -q
wsurg decompose "$@" --data text.txt $data -o one
cmp apart/adapter/adapter_config.json one/adapter/adapter_config.json
for file in residual adapter/adapter_model.safetensors; do
    wsurg diff apart/$file one/$file | head -1
done
ls -a
wsurg decompose "$@" --data text.txt $data -o one --resume; echo $?
wsurg decompose "$@" --data text.txt --samples 5 --seq 32 -o one --resume; echo $?
wsurg decompose "$@" --data text.txt $data -o one; echo $?
wsurg calibrate lm --data text.txt $data -o cov.st --resume; echo $?
wsurg calibrate lm --data text.txt --samples 5 -o cov.st --resume -q; echo $?
wsurg decompose "$@" --data text.txt --cov cov.st -o x; echo $?
wsurg decompose lm --pissa --data text.txt -o x; echo $?
wsurg decompose "$@" --data missing.txt -o x; echo $?
ls -a

# on the residual it is the model; on the model itself a part would count twice
wsurg eval lm one one/residual+one/adapter --data text.txt --window 64 --json | grep -o '"loss":[0-9.]*' | cut -c1-12 | uniq -c
wsurg lora fold one/residual one/adapter -o folded -q
wsurg diff lm folded --tol 1e-2 >/dev/null; echo $?
wsurg lora fold lm one/adapter -o x 2>&1 | grep -c 'belongs on the residual'
wsurg eval lm+one/adapter --data text.txt 2>&1 | grep -c 'belongs on the residual'
wsurg tune lm --adapter one/adapter --data text.txt --steps 2 -o x 2>&1 | grep -c 'belongs to a residual'
wsurg tune one/residual --adapter one/adapter --data text.txt --seq 32 --steps 2 -o trained -q
wsurg lora fold lm trained -o x 2>&1 | grep -c 'belongs on the residual'
wsurg lora fold one/residual trained -o after -q; wsurg diff one/residual after | grep '^not equal'
