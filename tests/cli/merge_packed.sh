# A pass takes BF16 sources as they are stored, and keeps what it has read where there
# is memory. The same models as floats, and less memory, give the same numbers.
sources='w:BF16:1100x1000:rnd'
mkmodel base.safetensors "$sources"1 v:BF16:7x3:rnd5
mkmodel one.safetensors "$sources"2 v:BF16:7x3:rnd6
mkmodel two.safetensors "$sources"3 v:BF16:7x3:rnd7
for m in base one two; do
    wsurg convert $m.safetensors -qq -o wide-$m.safetensors --dtype f32
done
for method in breadcrumbs ties breadcrumbs_ties; do
    wsurg merge base.safetensors one.safetensors two.safetensors --method $method \
        --base base.safetensors -qq --no-provenance -o packed.safetensors --force
    wsurg merge base.safetensors one.safetensors two.safetensors --method $method \
        --base base.safetensors -qq --no-provenance -o tight.safetensors --force \
        --max-memory 16MiB
    wsurg merge wide-base.safetensors wide-one.safetensors wide-two.safetensors \
        --method $method --base wide-base.safetensors -qq --no-provenance \
        --dtype bf16 -o wide.safetensors --force
    cmp packed.safetensors wide.safetensors && cmp packed.safetensors tight.safetensors &&
        echo $method alike
done

# What was read for the passes is not read again, where there is memory: once all of it,
# and a sample before.
read_of() { wsurg merge base.safetensors one.safetensors --method ties -qq --force \
    --base base.safetensors -o out.safetensors --max-memory "$1" --json |
    grep -oE '"read_bytes":[0-9]+' | cut -d: -f2; }
once=$(cat base.safetensors one.safetensors | wc -c)
[ "$(read_of 256MiB)" -lt $((once * 11 / 10)) ] && echo once
[ "$(read_of 16MiB)" -gt $((once * 19 / 10)) ] && echo twice

# Equal sources of a method that first looks at all of them: a copy, also when kept.
cp base.safetensors same.safetensors
wsurg merge base.safetensors same.safetensors same.safetensors --method model_stock \
    --base base.safetensors -qq --no-provenance -o out.safetensors --force
wsurg diff base.safetensors out.safetensors >/dev/null; echo $?
