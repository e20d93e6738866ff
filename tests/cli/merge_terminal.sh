# Binary data never goes to a terminal. Skipped where none can be had.
script -qec true /dev/null </dev/null >/dev/null 2>&1 || exit 77
mkmodel a.st x:F32:4:1
script -qec 'wsurg merge a.st a.st --method linear -o -; echo $?' /dev/null </dev/null |
    tr -d '\r'
ls -A
