# Two parts and join are one run; each part is priced by its own shards.
mkmodel base/ --llama 2,16,32 --shards 3
mkmodel tuned/ --llama 2,16,32 --shards 3 --update 1,0.02
wsurg merge base tuned --method ties -q -o whole
wsurg merge base tuned --method ties -q -o parts --part 1/2

# The plan of a part names its own folder and shards.
wsurg plan base tuned --method ties -o parts --part 2/2 | grep '^output'
wsurg plan base tuned --method ties -qq -o parts --part 2/2 --json |
    grep -oE '"outputs":\[[^]]*\]'

# A part that is missing is named, with the way to make it.
wsurg join base tuned --method ties -qq -o parts; echo $?
wsurg join base tuned --method ties -qq -o none; echo $?
mv parts.part-1-of-2 kept
mkdir parts.part-2-of-3
wsurg join base tuned --method ties -qq -o parts; echo $?
rmdir parts.part-2-of-3
mv kept parts.part-1-of-2

wsurg merge base tuned --method ties -q -o parts --part 2/2
wsurg join base tuned --method ties -o parts --json=joined.json 2>err.txt; echo $?
grep -c 'wrote 0 B' err.txt
diff -r whole parts && echo same

# read, write and disk of the parts add up to those of one run
shards=$(cat whole/*.safetensors | wc -c)
grep -oE '"(read|written)_bytes":[0-9]+' joined.json | cut -d: -f2 | grep -cx "$shards"
cost() { grep -oE '"(read|write|disk)":[0-9]+'; }
for part in 1/3 2/3 3/3; do
    wsurg plan base tuned --method ties -qq --part $part --json | cost
done | awk -F: '{ sum[$1] += $2 } END { for (k in sum) print k ":" sum[k] }' | sort >sums.txt
wsurg plan base tuned --method ties -qq --json | cost | sort | diff - sums.txt &&
    wc -l <sums.txt
wsurg merge base tuned --method ties -qq -o less --max-disk "$((shards * 2 / 3))B" \
    --part 2/3; echo $?
wsurg merge base tuned --method ties -qq -o less --max-disk "$((shards * 2 / 3))B" \
    2>/dev/null; echo $?
