# Help fits 80 columns and one screen, and every command has examples.
for command in $(wsurg gen commands | tr ' ' '+'); do
    words=$(echo $command | tr + ' ')
    wsurg $words --help >help.txt || echo "$words: exit $?"
    awk -v c="$words" 'length($0) > 80 && !/^  wsurg / { print c ": " $0 }
        END { if (NR > 48) print c ": " NR " lines" }' help.txt
    head -n 1 help.txt | grep -q '^  wsurg ' || echo "$words: no example"
done
wsurg --help | head -n 4
wsurg help methods | head -n 3
wsurg verify --help --nonsense
