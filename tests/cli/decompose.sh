# Decomposed into residual and adapter, put together again, and what is refused.
mkmodel base/ --llama 2,16,32 --dtype BF16
mkmodel other/ --llama 2,16,32 --dtype BF16 --update 1,0.1
wsurg decompose base --pissa --rank 4 -o split/
find split | sort
grep -c tensor split/decompose.json
wsurg verify split | tail -1
wsurg inspect split/residual --json | grep -o '"tensors":[0-9]*' | head -1
wsurg diff base split/residual >/dev/null; echo $?
wsurg decompose base --pissa --rank 2 --target q_proj --keep-base -o lora
find lora | sort
wsurg decompose base --pissa --rank 4 -o split/; echo $?
wsurg decompose base --pissa --rank 4 -o split/ --force -q; echo $?
wsurg decompose base; echo $?
wsurg decompose base --corda; echo $?
wsurg decompose base --corda --pissa --cov x.st; echo $?
wsurg decompose base --corda --cov base/model.safetensors; echo $?
wsurg decompose base --pissa --target nothing_such; echo $?
wsurg decompose base --pissa --rank 0; echo $?
wsurg decompose base --pissa -o -; echo $?
wsurg decompose base --pissa --rank 4 -o few --max-memory 1MiB 2>&1 | sed 's/takes .* of/takes N of/; s/memory [0-9]*MiB/memory NMiB/'
wsurg decompose base --pissa --rank 4 -o again -q -j1 && cmp split/residual/model.safetensors again/residual/model.safetensors && cmp split/adapter/adapter_model.safetensors again/adapter/adapter_model.safetensors && echo same bytes
