# Two models compared: equal, changed, within a tolerance, of other shapes.
mkmodel a.st x:F32:2x3:iota y:F32:4:1 n:I32:2:7
mkmodel b.st x:F32:2x3:iota y:F32:4:1.5 n:I32:2:7
mkmodel c.st x:F32:6:iota y:F16:4:1 z:F32:1:0
wsurg diff a.st a.st; echo $?
wsurg diff a.st b.st; echo $?
wsurg diff a.st b.st --tol 0.5; echo $?
wsurg diff a.st c.st; echo $?
wsurg diff a.st b.st --json >d.json; echo $?
jsoncheck "$SCHEMA" d.json
wsurg diff a.st nowhere.st; echo $?
mkmodel m.st x:F32:2x3:iota y:F32:4:1 n:I32:2:7 --meta a=1 --meta b=2
mkmodel o.st x:F32:2x3:iota y:F32:4:1 n:I32:2:7 --meta b=3 --meta c=4
wsurg diff m.st o.st --metadata; echo $?
wsurg diff m.st - --metadata --json <o.st | sed 's/.*"metadata"/"metadata"/; s/,"run".*//'
wsurg diff - - <o.st; echo $?
