# What a fine-tune changed, as an adapter: by rank, by energy, by budget.
mkmodel base/ --llama 2,16,32
mkmodel tuned/ --llama 2,16,32 --update 1,0.1
wsurg decompose tuned --svd --base base --rank 4 -o four
find four | sort
wsurg verify four | tail -1
wsurg decompose tuned --svd --base base --energy 0.9 -o most --json | grep -o '"method":"svd"\|"layers":[0-9]*\|"equal":[0-9]*'
wsurg decompose tuned --svd --base base --budget 2000 -o small --json | grep -o '"parameters":[0-9]*' | sed 's/[0-9]*$/&/' | awk -F: '{ print ($2 <= 2000 && $2 > 1900) }'
wsurg decompose base --svd --base base --rank 4 -o none
wsurg decompose tuned --svd --rank 4 -o x; echo $?
wsurg decompose tuned --pissa --energy 0.5 -o x; echo $?
wsurg decompose tuned --svd --base base --energy 0.5 --budget 7 -o x; echo $?
wsurg decompose tuned --svd --base base --target nothing_such -o x; echo $?
