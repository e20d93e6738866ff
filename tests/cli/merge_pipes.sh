# A model from standard input, the result to standard output: the same bytes.
mkmodel a.st --llama 1,8,16
mkmodel b.st --llama 1,8,16 --update 1,0.02
wsurg merge a.st b.st --method linear -q -o want.st --no-provenance
wsurg merge a.st - --method linear -q -o - --no-provenance <b.st | cmp - want.st && echo same
wsurg merge - - --method linear -o x.st <b.st; echo $?
wsurg merge a.st b.st --method linear -o - --json | head -c 17; echo
wsurg merge a.st b.st --method linear -o - --json=doc.json -q --no-provenance >got.st
cmp got.st want.st
jsoncheck "$SCHEMA" doc.json
grep -o '"outputs":\[{"path":"-"' doc.json

# Through a pipe too; a mistake in it is one of '-', and its label is always stdin.
cat b.st | wsurg merge a.st - --method linear -q -o - --no-provenance | cmp - want.st && echo same
wsurg plan - b.st --method ties -qq <a.st | grep stdin
cat a.st | wsurg plan - b.st --method ties --json | grep -o '"label":"[^"]*","path":"[^"]*"\|"path":"-"'
head -c 700 b.st | wsurg merge a.st - --method linear -o x.st; echo $?
echo no model | wsurg merge a.st - --method linear -o x.st --json | grep -o '"path":"[^"]*"'
ls -A; ls -A "$TMPDIR"
