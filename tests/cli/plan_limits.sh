# What does not fit is shown all the same, with the way out: exit 4.
mkmodel a.st --llama 1,8,16
wsurg plan a.st a.st --method linear --max-memory 1KiB -j1 >out.txt 2>err.txt; echo $?
grep -c . out.txt
sed "s/least [0-9.]* MB/least N MB/; s/[0-9][0-9]*MiB/NMiB/" err.txt
wsurg plan a.st a.st --method linear --max-disk 1KB >out.txt; echo $?
