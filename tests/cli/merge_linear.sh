# No base, no warning; the mean of 1 and 3.
mkmodel a.st x:F32:4:1
mkmodel b.st x:F32:4:3
wsurg merge a.st b.st --method linear -o out.st --no-provenance --manifest none
tail -c 16 out.st | od -A n -t f4
