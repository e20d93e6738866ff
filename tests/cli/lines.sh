mkmodel base/ --llama 3,16,32
mkmodel tuned/ --llama 3,16,32 --update 1,0.02
wsurg lines base tuned --alpha 0.25; echo $?
wsurg merge tuned --base base --method task_arithmetic --lines 0.25,0.75 -o same -q
cmp lined/model.safetensors same/model.safetensors && echo same
wsurg lines base tuned --beta 0.5; echo $?
wsurg lines base tuned --alpha x -o x; echo $?
