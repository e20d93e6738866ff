# A file that is gone is an answer, not a failure.
mkmodel a.st --llama 1,8,16
wsurg merge a.st a.st --method linear -q -o out.st
rm out.st
wsurg verify out.st; echo $?
