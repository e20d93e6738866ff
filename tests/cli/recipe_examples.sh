# Every recipe of the examples runs, and no note says that it was read otherwise; with
# other threads, memory and shards the tensors are the same.
mkdir examples && ln -s "$CASES/../../examples/models" "$CASES/../../examples/recipes" examples/
for recipe in examples/recipes/*.yml; do
    wsurg merge $recipe out/ --strict -q -j 1 && wsurg verify out >/dev/null &&
        wsurg check out --finite >/dev/null &&
        wsurg merge $recipe again/ -q -j 3 --max-memory 24MiB --shard-size 300kB &&
        wsurg diff out again >/dev/null && echo "$recipe" || echo "failed: $recipe"
    rm -rf out again
done
for m in $(wsurg methods | sed -n 's/^\([a-z_]*\) .*/\1/p'); do
    grep -q "merge_method: $m\$\|method: $m\$" examples/recipes/*.yml || echo "no recipe of $m"
done
grep '"num_hidden_layers"' examples/models/base/config.json | tr -d ' '
