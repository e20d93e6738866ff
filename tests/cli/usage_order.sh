# Any order; global options before the command too; letters with and without a space.
mkmodel a.st x:F32:4:1
mkmodel b.st x:F32:4:3
wsurg -q --color never merge -o out.st a.st --method=linear -j2 b.st && ls
