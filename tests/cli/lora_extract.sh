# A fine-tune's update as an adapter: the same numbers as decompose --svd, as the output.
mkmodel base/ --llama 2,16,32
mkmodel tuned/ --llama 2,16,32 --update 1,0.1
wsurg lora extract base tuned --rank 4
find adapter | sort
wsurg decompose tuned --svd --base base --rank 4 -o svd -q
cmp adapter/adapter_model.safetensors svd/adapter/adapter_model.safetensors && echo same
cmp adapter/adapter_config.json svd/adapter/adapter_config.json && echo same
wsurg lora extract base tuned --rank 16 -o whole -qq --json |
    sed -E 's/.*"result":\{/{/; s/"worst".*"parameters"/"parameters"/; s/,"files".*//'
wsurg lora fold base whole -o again -q
wsurg diff tuned again --tol 1e-5 >/dev/null && echo near
wsurg lora extract base tuned --rank 4 --target q_proj --tensors -o q 2>&1 | sed -E 's/ · .*//'
wsurg lora extract base tuned --energy 0.5 --budget 7 -o x; echo $?
wsurg lora extract base tuned -o -; echo $?
wsurg lora extract base; echo $?
