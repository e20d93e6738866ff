# Binary data never goes to a terminal.
mkmodel a.st x:F32:4:1
command -v script >/dev/null || { echo 'wsurg: error: no terminal to try' && exit 0; }
script -qec 'wsurg merge a.st a.st --method linear -o -; echo $?' /dev/null </dev/null |
    tr -d '\r'
ls -A
