# SIGINT ends by SIGINT and leaves nothing; stdin that never ends keeps the run alive.
mkmodel a.st x:F32:4:1
mkfifo pipe
for signal in INT TERM; do
    sleep 5 >pipe &
    writer=$!
    ( trap - INT; exec wsurg merge a.st - --method linear <pipe 2>err.txt ) &
    wsurg=$!
    sleep 0.5
    kill -s $signal $wsurg
    kill $writer
    wait $wsurg
    echo "$signal $?"
    cat err.txt
    rm -f err.txt
    ls -A
done 2>/dev/null
