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
