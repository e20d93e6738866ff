# A near name is read as meant, so that one wrong letter gives one error.
mkmodel a.st x:F32:4:1
wsurg merge a.st a.st --metod linear; echo $?
wsurg merge a.st a.st --method linear --on_missing error --frobnicate 3; echo $?
wsurg merge a.st a.st --method linear -z; echo $?
wsurg merge a.st a.st --method linear --sweep x=1; echo $?
