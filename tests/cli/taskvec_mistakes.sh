# What is refused, and with which exit status.
mkmodel a.st w:F32:2x3:iota
mkmodel b.st w:F32:2x3:1
mkmodel c.st w:F32:2x3:2
mkmodel d.st w:F32:3x3:2
wsurg taskvec extract a.st b.st -o t.st -q --manifest none
wsurg taskvec extract b.st a.st -o back.st -q --manifest none
wsurg taskvec apply c.st t.st -o x.st; echo $?
wsurg taskvec apply d.st t.st -o x.st; echo $?
wsurg taskvec apply c.st t.st -o forced.st --force-base; echo $?
wsurg taskvec apply a.st b.st -o x.st; echo $?
wsurg taskvec apply t.st t.st -o x.st; echo $?
wsurg taskvec apply a.st t.st -o a.st; echo $?
wsurg taskvec apply a.st t.st -o t.st --force; echo $?
wsurg taskvec extract a.st b.st -o t.st; echo $?
wsurg taskvec extract a.st b.st -o dir/; echo $?
wsurg taskvec extract a.st b.st -o x.st --set density=0.1; echo $?
wsurg taskvec extract a.st b.st -o x.st --method linear; echo $?
wsurg taskvec extract a.st b.st -o x.st --method ties --set density=7; echo $?
wsurg taskvec combine t.st back.st -o x.st; echo $?
wsurg taskvec combine t.st t.st --weights 1 -o x.st; echo $?
wsurg taskvec combine t.st t.st --weights 1,x -o x.st; echo $?
wsurg taskvec stats a.st; echo $?
wsurg taskvec; echo $?
ls
