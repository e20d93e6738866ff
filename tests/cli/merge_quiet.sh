# -q leaves warnings, -qq only errors.
mkmodel a.st --llama 1,8,16
mkmodel b.st --llama 1,8,16 --update 1,0.02
wsurg merge a.st b.st --method breadcrumbs -q -o 1.st
echo --- >&2
wsurg merge a.st b.st --method breadcrumbs -qq -o 2.st
cmp 1.st 2.st
