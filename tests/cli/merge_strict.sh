# A warning is an error, and nothing is written.
mkmodel a.st --llama 1,8,16
mkmodel b.st --llama 1,8,16 --update 1,0.02
wsurg merge a.st b.st --method breadcrumbs --strict; echo $?
ls -A
wsurg merge b.st --base a.st --method breadcrumbs --strict -q && ls -A
