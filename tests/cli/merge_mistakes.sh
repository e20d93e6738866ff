# Everything wrong at once.
mkmodel a.st x:F32:4:1 y:F32:2x2:1 z:F32:4:1
mkmodel b.st x:F32:5:1 y:F32:4:1
wsurg merge a.st b.st --method breadcrumbs --set density=2 --set gama=1 --lines x --part 0/3
echo $?
wsurg merge a.st b.st --method linear; echo $?
