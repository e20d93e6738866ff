# The command as typed in the README.
mkmodel a.st --llama 2,16,32
mkmodel b.st --llama 2,16,32 --update 1,0.02
wsurg merge a.st b.st --method breadcrumbs
