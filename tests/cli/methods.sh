# Each method once, with its source.
wsurg methods | grep -A 1 -E '^(breadcrumbs|linear) '
wsurg methods task-arithmetic | head -n 1
wsurg methods breadcrumb; echo $?
wsurg methods linear --json | cut -c 1-200
