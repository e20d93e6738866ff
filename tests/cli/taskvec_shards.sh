# Applied again, a task vector gives the files of the model that it was made from.
mkmodel base/ --llama 2,16,32 --shards 3
mkmodel flat.st --llama 2,16,32
mkmodel tuned/ --llama 2,16,32 --shards 5 --update 1,0.02
mkmodel whole/ --llama 2,16,32 --update 1,0.02

# same_files A B: the weights of two directories, byte for byte
same_files() {
    for side in "$1" "$2"; do (cd "$side" && cksum *.safetensors) >"$side.sum"; done
    cmp "$1.sum" "$2.sum" && wc -l <"$2.sum"
}

# shards from shards, and from one file
for from in base flat.st; do
    wsurg taskvec extract $from tuned -o t.st -q --force
    wsurg taskvec apply $from t.st -o back/ -q --force
    same_files tuned back
    wsurg verify back
done

# one file from shards
wsurg taskvec extract base whole -o w.st -q
wsurg taskvec apply base w.st -o one/ -q --no-provenance
same_files whole one

# what asks for another layout gets it
wsurg taskvec extract base tuned -o t.st -q --force
wsurg taskvec apply base t.st -o small/ -q --shard-size 4KB
ls small | grep -c safetensors$
wsurg taskvec apply base t.st -o half/ -q --scale 0.5
ls half | grep -c safetensors$
wsurg taskvec apply base t.st -o back.st -q
wsurg diff back.st tuned | head -n 1

# names of files are checked like any other
LC_ALL=C sed 's,model-00002-of-00005,../el-00002-of-00005,' t.st >up.st
wsurg taskvec apply base up.st -o up/; echo $?
LC_ALL=C sed 's,model-00002-of-00005,model-00001-of-00005,' t.st >twice.st
wsurg taskvec apply base twice.st -o up/; echo $?

# and headers must be those of the tensors
LC_ALL=C sed 's/"lm_head.weight":{/"lm_tail.weight":{/' t.st >other.st
wsurg taskvec apply base other.st -o up/; echo $?
