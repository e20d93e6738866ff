cp -r "$CASES/../../examples/models/base" base
wsurg convert base --dtype f32 --no-tokenizer -o base.gguf --no-provenance; echo $?
wsurg convert base.gguf -o back.st -q --no-provenance; echo $?
wsurg convert base --dtype f32 -o base32.st -q --no-provenance
cmp back.st base32.st && echo same
wsurg diff base.gguf base32.st | tail -n 2
wsurg convert base --dtype q8_0 --no-tokenizer -o q8.gguf -q && wsurg verify q8.gguf
wsurg convert base --dtype f16 --shard-size 400KB -o half -q && ls half
wsurg convert base -o x.gguf; echo $?
wsurg convert base --dtype q8_0 -o x; echo $?
wsurg convert base; echo $?
wsurg convert back.st --no-tokenizer -o x.gguf; echo $?
wsurg convert base.gguf -o base.gguf --no-tokenizer --companions-from base; echo $?
printf 'GGUF\3\0\0\0\377\377\377\377\377\377\377\377\0\0\0\0\0\0\0\0' >bad.gguf
wsurg inspect bad.gguf; echo $?
head -c 3000 base.gguf >cut.gguf
wsurg inspect cut.gguf; echo $?
# npz
wsurg convert base32.st -o base.npz; echo $?
wsurg diff base.npz base32.st | tail -n 1
wsurg convert base.npz -o again.st -q --no-provenance && cmp again.st base32.st && echo same
wsurg convert base -o y.npz; echo $?
wsurg convert base --dtype bf16 -o y.npz; echo $?
wsurg convert base --to gguf -o y.npz; echo $?
wsurg convert base32.st -o base.npz; echo $?
wsurg convert base32.st -o js.npz -q --json >c.json; jsoncheck "$SCHEMA" c.json && echo valid
ls y.npz 2>/dev/null || true
