# Two parts and join are one run.
mkmodel base/ --llama 2,16,32 --shards 3
mkmodel tuned/ --llama 2,16,32 --shards 3 --update 1,0.02
wsurg merge base tuned --method ties -q -o whole
wsurg merge base tuned --method ties -q -o parts --part 1/2
wsurg join base tuned --method ties -q -o parts; echo $?
wsurg merge base tuned --method ties -q -o parts --part 2/2
wsurg join base tuned --method ties -q -o parts; echo $?
diff -r whole parts && echo same
