# One document for every usage error.
for line in '' 'merg' 'merge' 'merge --metod x' 'verify a b' 'merge a.st --method nope' \
    'taskvec' '--json=' 'merge a --method linear -o - '; do
    wsurg $line --json >doc.json 2>/dev/null
    status=$?
    jsoncheck "$SCHEMA" doc.json && echo "$status $line"
done
wsurg merge --metod x --json 2>/dev/null
