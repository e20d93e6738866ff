# Gates: all are evaluated, offenders named, patterns that hit nothing refused.
mkmodel a.st x.weight:F32:2x2:iota y.weight:F32:3:1
mkmodel b.st x.weight:F32:2x2:iota y.weight:F32:3:2
mkmodel bad.st x.weight:F32:2x2:nan y.weight:F32:3:1
wsurg check a.st; echo $?
wsurg check bad.st; echo $?
wsurg check b.st --against a.st; echo $?
wsurg check b.st --against a.st --frozen '^x' --only '^y' --max-rel-delta 1 --min-cosine 0.9
echo $?
wsurg check b.st --against a.st --frozen y --only x --max-rel-delta 0.5 --finite; echo $?
wsurg check b.st --against a.st --frozen nothing; echo $?
wsurg check b.st --against a.st --frozen '('; echo $?
wsurg check b.st --frozen x; echo $?
printf '# names\n^x\n' >names
wsurg check b.st --against a.st --frozen @names --json >c.json; echo $?
jsoncheck "$SCHEMA" c.json
wsurg check - --against a.st --max-rel-delta 9 <b.st; echo $?
wsurg check bad.st --against a.st --max-rel-delta 1e30 --json | sed 's/.*"result"/"result"/; s/,"run".*//'
# A BOOL is 0 or 1.
mkmodel flags.st x:BOOL:3:1 y:BOOL:4:2
wsurg check flags.st; echo $?
wsurg inspect flags.st --stats | grep ' y'
wsurg inspect flags.st --stats --json | grep -o '"not_bool":[0-9]*'
# Fit for F16: 65504 and what rounds to it.
mkmodel big.st x:F32:2:65519 y:F32:3:65520 z:I32:1:70000
wsurg check big.st --fits-f16; echo $?
# config.json against the tensors
mkdir m && cp "$CASES"/../../examples/models/base/* m/
wsurg check m --config-consistent; echo $?
sed -i 's/"num_hidden_layers": [0-9]*/"num_hidden_layers": 9/; s/"vocab_size": [0-9]*/"vocab_size": 7/' m/config.json
sed -i 's/"\(torch_\)\?dtype": "[a-z0-9]*"/"torch_dtype": "float64"/' m/config.json
wsurg check m --config-consistent; echo $?
wsurg check a.st --config-consistent; echo $?
# Lineage, whatever the metadata say.
B="$CASES/../../examples/models"
wsurg check "$B/sums" --lineage "$B/base" | sed 's/value 0.9[0-9]*/value 0.9…/'
mkmodel r1.st x.weight:F32:64x64:rnd1 y.weight:F32:64x64:rnd2
mkmodel r2.st x.weight:F32:64x64:rnd3 y.weight:F32:64x32:rnd4
wsurg check r1.st --lineage r1.st; echo $?
wsurg check r2.st --lineage r1.st | sed 's/-\?[0-9.]*e-[0-9]*\|-\?0\.[0-9]\{4,\}/SMALL/'; echo $?
# A policy: the same keys; the command line wins.
printf 'finite: true\nsame: true\nmax_rel_delta: 0.5\n' >gates.yml
wsurg check b.st --against a.st --policy gates.yml; echo $?
wsurg check b.st --against a.st --policy gates.yml --max-rel-delta 1 -q | tail -n 1
echo '{"frozen": "^x", "against": "a.st", "min-cosine": 0.9}' >gates.json
wsurg check b.st --policy gates.json; echo $?
printf 'finite: maybe\nfrozenn: x\nonly: [x]\nmin-cosine: 2\nwindow: 3\nonly: y\n' >bad.yml
wsurg check b.st --policy bad.yml; echo $?
printf 'finite: maybe\nfrozenn: x\nmin-cosine: 2\nwindow: 3\npolicy: x\n' >bad.yml
wsurg check b.st --policy bad.yml; echo $?
: >bad.yml; wsurg check b.st --policy bad.yml; echo $?
wsurg check b.st --policy none.yml; echo $?
