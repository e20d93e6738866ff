wsurg verify; echo $?
wsurg verify a b; echo $?
wsurg verify -- -x; echo $?
