# Names, metadata and sharding: headers anew, data as they were.
mkmodel a.st layers.0.w:F32:4x4:iota layers.1.w:BF16:2:1 head:F32:3:2 none:U8:0x2:0 --meta format=pt --meta note=x
wsurg rename a.st 's/^layers\.(\d+)/model.h.\1/' -o b.st; echo $?
wsurg inspect b.st --tensors | grep "\["
wsurg meta get b.st | grep -v version
wsurg rename b.st 's|^model\.h|layers|' -o c.st --no-provenance -q && cmp a.st c.st && echo back
wsurg rename a.st 's/head/layers.0.w/' -o x.st; echo $?
wsurg rename a.st 's/absent/y/' -o x.st; echo $?
wsurg rename a.st 's/head//' -o x.st; echo $?
wsurg rename a.st 's/head' -o x.st; echo $?
wsurg rename a.st 'tr/a/b/' -o x.st; echo $?
wsurg rename a.st 's/(/y/' -o x.st; echo $?
wsurg rename a.st 's/head/$3/' -o x.st; echo $?
wsurg rename a.st 's/head/y/' -o a.st --force; echo $?
wsurg rename a.st 's/head/y/'; echo $?
wsurg rename a.st 's/head/y/' -o -; echo $?
ls x.st 2>/dev/null
# metadata
wsurg meta set a.st 'note=é "new"' more= -o m.st -q; wsurg meta get m.st; wsurg meta get m.st note
wsurg meta get m.st absent; echo $?
wsurg meta get m.st --json >m.json && jsoncheck "$SCHEMA" m.json && echo valid
wsurg meta rm m.st more -o m2.st -q; wsurg meta set m2.st note=x -o m3.st -q; cmp m3.st a.st && echo same
wsurg meta rm a.st absent -o x.st; echo $?
wsurg meta set a.st wsurg.content=1 -o x.st; echo $?
wsurg meta set a.st =1 -o x.st; echo $?
wsurg meta set a.st note -o x.st; echo $?
# shards: those that nothing changes in keep their bytes
mkmodel sh/ --shards 3 a:F32:8:iota b:F32:8:1 c:F32:8:2
wsurg rename sh 's/^b$/bb/' -o sr --json >r.json; jsoncheck "$SCHEMA" r.json
grep -o '"renamed":[0-9]*,"untouched":[0-9]*' r.json
for f in sh/*.safetensors; do cmp -s "$f" "sr/${f#sh/}" && echo "${f#sh/} same" || echo "${f#sh/} changed"; done
wsurg verify sr | tail -n 1; wsurg diff sh sr | head -n 1
wsurg meta set sh title=t -o sm -q && for f in sh/*.safetensors; do cmp "$f" "sm/${f#sh/}"; done; wsurg meta get sm
wsurg rename sh 's/^b$/bb/' -o one.st; echo $?
# split
wsurg split a.st --shard-size 60B -o sp -q && ls sp && wsurg diff a.st sp | head -n 1; wsurg meta get sp
wsurg convert sp -o joined.st -q --no-provenance --keep-metadata && wsurg diff a.st joined.st | head -n 1
wsurg split sh --shard-size 1GB -o keep -q && ls keep && cmp sh/model-00001-of-00003.safetensors keep/model-00001-of-00003.safetensors
wsurg split a.st -o whole.st -q && cmp a.st whole.st && echo whole
wsurg split a.st --shard-size 0B -o y; echo $?
cp -r "$CASES/../../examples/models/base" base
wsurg split base --shard-size 400KB -o bs -qq && ls bs && wsurg diff base bs | head -n 1
wsurg convert base --no-tokenizer --dtype f32 -o base.gguf -q
wsurg rename base.gguf 's/a/b/' -o x.st; echo $?
wsurg meta get base.gguf general.architecture
wsurg merge a.st a.st --method linear -o mg.st -qq; wsurg split mg.st --shard-size 60B -o ms -q; wsurg meta get ms wsurg.content
