# README.md of a merged directory: front matter, models, recipe; --no-card; no paths.
export HF_HUB_CACHE=$PWD/cache
snap=cache/models--org--tuned/snapshots/0123abcd
mkdir -p cache/models--org--tuned/refs cache/models--org--tuned/snapshots deep
printf 0123abcd >cache/models--org--tuned/refs/main
mkmodel base/ --llama 2,16,32
mkmodel $snap/ --llama 2,16,32 --update 1,0.02
mkmodel deep/tuned/ --llama 2,16,32 --update 2,0.02
echo 'the card of the base' >base/README.md
echo 'import os' >base/modeling_own.py
wsurg merge base org/tuned@main deep/tuned --method ties --set density=0.3 --seed 5 \
    --on-missing skip -o flags/ 2>err; echo $?
grep carried err
cat flags/README.md
wsurg verify flags | tail -n 1
cat >r.yml <<END
# a comment
name: first
models:
  - model: &a $PWD/deep/tuned/
    parameters: {weight: 0.5}
  - {model: {model: {path: org/tuned, revision: main}}, parameters: {weight: 0.5}}
merge_method: linear
base_model: *a
---
merge_method: slerp
base_model: base
models: [{model: first}, {model: base}]
parameters: {t: 0.5}
END
wsurg merge r.yml two/ -q --no-provenance --vocab pad; ls two
wsurg merge r.yml three/ -q --no-card; ls three
wsurg merge r.yml four/ -q --vocab pad; cat four/README.md
mv deep/tuned other && sed s,deep/tuned,other/../other, r.yml >moved.yml
wsurg merge moved.yml five/ -q --vocab pad --shard-size 10kB -j 1
sed s/other/tuned/ five/README.md | cmp - four/README.md && ls five | grep -c model-
# parts, joined, have the same one; a file has none
for k in 1 2; do wsurg merge moved.yml -o six/ -q --vocab pad --shard-size 10kB --part $k/2; done
wsurg join moved.yml -o six/ -q --vocab pad --shard-size 10kB; cmp five/README.md six/README.md
wsurg merge base other --method linear -q -o file.safetensors; ls file*
mkmodel plain.st w:F32:2:1 && wsurg merge plain.st plain.st --method linear -q -o plain/; ls plain
