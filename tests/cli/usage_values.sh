# Every bad value of one command line is reported.
wsurg merge a.st b.st --method linear --threads 0 --max-memory 12 --color blue \
    --dtype f8 --shard-size big --seed -3 --on-missing bse --part 3/2 --force=yes
