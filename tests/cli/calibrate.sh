# Covariances of a model that runs; decomposed by them; what is refused.
cp -r "$CASES/../../examples/models/base" base
seq 1 400 >text.txt
wsurg calibrate base --data text.txt --samples 6 --seq 32
wsurg calibrate base --data text.txt --samples 6 --seq 32 -o one.st -j1 -q && cmp one.st cov.safetensors && echo same bytes
wsurg calibrate base --data text.txt --samples 6 --seq 32 -o tight.st --max-memory 6MiB -q; echo $?
cmp tight.st cov.safetensors && echo same bytes
wsurg calibrate base --data text.txt --samples 6 --seq 32 --seed 1 -o more.st --add cov.safetensors --json | grep -o '"samples":[0-9]*,"tokens":[0-9]*'
wsurg decompose base --corda --cov more.st --mode kpm --rank 8 -o kpm/
wsurg decompose base --corda --cov more.st --rank 8 -o ipm/ -q && wsurg verify ipm | tail -1
wsurg decompose "$CASES/../../examples/models/sums" --corda --cov more.st -o x/ 2>&1 | grep -c 'covariances are of another model'
wsurg decompose base --corda --cov more.st --normalise none -o x/; echo $?
wsurg decompose base --corda --cov more.st --target embed_tokens -o x/; echo $?
wsurg calibrate base --data text.txt --normalise none --add more.st -o x.st; echo $?
wsurg calibrate base; echo $?
wsurg calibrate base --data missing.txt; echo $?
# what shares an input shares one matrix; the file can be looked at
head -c 9000 cov.safetensors | grep -ao 'layers.0.[a-z_.]*weight\\":\\"cov.model.layers.0[a-z._]*'
wsurg inspect cov.safetensors | head -3
