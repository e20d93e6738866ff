# Three models, parameters per model, a base named and repeated, a directory.
mkmodel base/ --llama 2,16,32
mkmodel one/ --llama 2,16,32 --update 1,0.02
mkmodel two/ --llama 2,16,32 --update 2,0.03
wsurg merge --base base one two base --method ties --weights 1,0.5 --set density.two=0.4 \
    -o merged
ls merged
wsurg verify merged
