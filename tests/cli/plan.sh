mkmodel base/ --llama 2,16,32 --dtype BF16
mkmodel one/ --llama 2,16,32 --dtype BF16 --update 1,0.02
mkmodel two/ --llama 2,16,32 --dtype BF16 --update 2,0.02
wsurg plan base one two --method ties --set density=0.4
wsurg plan one two --base base --method breadcrumbs --weights 1,0.5 --tensors | grep layers.1
ls
