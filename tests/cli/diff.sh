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
