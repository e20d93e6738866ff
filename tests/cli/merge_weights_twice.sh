mkmodel a.st x:F32:4:1
wsurg merge a.st a.st --method linear --weights 1,2 --set weight=3
