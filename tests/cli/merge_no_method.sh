mkmodel a.st x:F32:4:1
mkmodel b.st x:F32:4:3
wsurg merge a.st b.st; echo $?
wsurg merge b.st --base a.st; echo $?
wsurg merge a.st nowhere.st; echo $?
