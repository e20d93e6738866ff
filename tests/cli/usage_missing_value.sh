# An option takes no other option for its value; --name=--value does.
mkmodel a.st x:F32:4:1
wsurg merge a.st a.st --method --force; echo $?
wsurg merge a.st a.st --method=--force; echo $?
wsurg merge a.st a.st -o; echo $?
