# Names in the hub's cache, and downloads that have not finished. Never the network.
export HF_HUB_CACHE=$PWD/cache
snap=cache/models--org--tiny/snapshots/0123abcd
mkdir -p $snap cache/models--org--tiny/refs cache/models--org--tiny/blobs
printf 0123abcd >cache/models--org--tiny/refs/main
mkmodel cache/models--org--tiny/blobs/b1 x.weight:F32:2x2:iota
ln -s ../../blobs/b1 $snap/model.safetensors
echo '{"model_type": "llama"}' >$snap/config.json
wsurg inspect org/tiny --json | grep -o '"path":"[^"]*"' | head -n 1
wsurg check org/tiny@main --finite; echo $?
wsurg merge org/tiny org/tiny --method linear -o out -qq; ls out
wsurg convert org/tiny -o cache/models--org--tiny/snapshots/0123abcd --force; echo $?
unset HF_HUB_CACHE
mkdir home && mv cache home/hub
HF_HOME=home wsurg diff org/tiny@0123abcd home/hub/models--org--tiny/snapshots/0123abcd | head -n 1
export HF_HOME=home
wsurg inspect org/other; echo $?
wsurg inspect org/tiny@v2; echo $?
wsurg inspect home/other; echo $?
wsurg inspect other; echo $?
# what is there is no name
mkdir org && mkmodel org/tiny.st x.weight:F32:2:1
wsurg inspect org/tiny | head -n 1
rm org/tiny.st && mv home/hub/models--org--tiny/blobs/b1 home/hub/models--org--tiny/blobs/b1.incomplete
rm home/hub/models--org--tiny/snapshots/0123abcd/model.safetensors
wsurg inspect org/tiny; echo $?
mkdir part && mkmodel part/x.st x.weight:F32:2:1 && mv part/x.st part/model.safetensors.incomplete
wsurg inspect part; echo $?
wsurg inspect part/model.safetensors.incomplete; echo $?
printf 'version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n' >part/model.safetensors
wsurg inspect part; echo $?
: >empty.safetensors; wsurg inspect empty.safetensors; echo $?
: >empty.gguf; wsurg inspect empty.gguf; echo $?
: >empty.bin; wsurg inspect empty.bin; echo $?
printf "\100\0\0\0\0\0\0\0{" >cut.safetensors.incomplete
wsurg inspect cut.safetensors.incomplete; echo $?
