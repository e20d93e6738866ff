mkmodel a.st x:F32:4:1
mkmodel b.st x:F32:4:nan
wsurg merge a.st b.st --method linear; echo $?
ls -A
wsurg merge a.st b.st --method linear --allow-nonfinite -q; echo $?
