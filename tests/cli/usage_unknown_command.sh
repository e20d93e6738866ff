# The nearest command, a group without its second word, and nothing near.
wsurg merg a.st b.st; echo $?
wsurg verfy x; echo $?
wsurg frobnicate; echo $?
wsurg mergekit-yaml a.st b.st --method linear; echo $?
