# --json=FILE leaves standard output alone, and no foreign file is overwritten.
wsurg methods linear --json=doc.json | head -n 1
jsoncheck "$SCHEMA" doc.json && echo valid
wsurg methods linear --json=doc.json >out.txt && echo again
echo precious >notes.txt
wsurg methods linear --json=notes.txt >out.json 2>err.txt; echo $?
cat err.txt notes.txt
jsoncheck "$SCHEMA" out.json && echo valid
