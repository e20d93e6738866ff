# Figures of task vectors, and arithmetic with them.
mkmodel a.st w:F32:2x3:0 v:F32:4:1 n:I32:2:7
mkmodel b.st w:F32:2x3:iota v:F32:4:1 n:I32:2:7
mkmodel c.st w:F32:2x3:1 v:F32:4:0 n:I32:2:8
wsurg taskvec extract a.st b.st -o t.st -q --manifest none
wsurg taskvec extract a.st c.st -o u.st -q --manifest none
wsurg taskvec stats t.st u.st --tensors
wsurg taskvec stats t.st --spectrum
wsurg taskvec combine t.st u.st --weights 2,-1 -o v.st -q
wsurg taskvec apply a.st v.st -o out.st -q
wsurg inspect out.st --stats | grep 'w\|v\|n'
wsurg taskvec apply a.st t.st --scale -1 -o minus.st -q
wsurg inspect minus.st --stats | grep w
wsurg taskvec extract a.st b.st -o s.st --method breadcrumbs --set density=0.5 --set gamma=0
wsurg taskvec stats s.st
