# A real model beside the checkout, where it stands: losses as PyTorch measured them, and
# its greedy text.
D=$CASES/../../../shared/data
[ -f "$D/stories260k/config.json" ] || exit 77
ln -s "$D/stories260k" story
wsurg eval story "$D"/stories260k-kjv.safetensors "$D"/stories260k-es.safetensors \
    "$D"/stories260k-sums.safetensors --companions-from story --bos none --window 128 \
    --limit 8000 --data kjv="$D/text/kjv.eval.txt" --data es="$D/text/es.eval.txt" \
    --data sums="$D/text/sums.eval.txt" --data story="$D/text/story.txt" >table
cat >want <<'END'
3.915 7.190 5.434 0.487
2.377 6.265 6.471 2.060
5.583 2.100 6.379 5.247
6.338 9.140 0.692 3.099
END
awk 'NR == FNR { for (i = 1; i <= 4; i++) want[n++] = $i; next }
    $3 ~ /^[0-9]+$/ && k < n {
        d = $4 - want[k++]
        print (d < 0.005 && d > -0.005 ? "as measured" : "differs"), $2
    }' want table
wsurg generate story --prompt '' --max-tokens 120 -q
