# Every recipe of the examples runs, and no note says that it was read otherwise.
mkdir examples && ln -s "$CASES/../../examples/models" "$CASES/../../examples/recipes" examples/
for recipe in examples/recipes/*.yml; do
    wsurg merge $recipe out/ --strict -q && wsurg verify out >/dev/null && echo "$recipe" &&
        wsurg check out --finite >/dev/null || echo "failed: $recipe"
    rm -rf out
done
grep '"num_hidden_layers"' examples/models/base/config.json | tr -d ' '
