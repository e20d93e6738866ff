# What a checkpoint holds, from headers and with figures.
mkmodel a.st x:F32:2x2:iota y:BF16:3:0 --meta format=pt
mkmodel bad.st x:F32:3:nan
wsurg inspect a.st
wsurg inspect a.st --tensors
wsurg inspect a.st --stats
wsurg inspect bad.st --stats
wsurg inspect a.st --json --tensors | sed 's/.*"tensors"/"tensors"/; s/,"run".*//'
wsurg inspect - <a.st
