#!/usr/bin/env bash
# folders.sh - each folder opens with a README of at most 20 lines
. "$(dirname "${BASH_SOURCE[0]}")/lint.sh"

# Folders down to the second level; below that they are data. Headers are installed from
# include/wsurg, so their README stands above it.
folders() {
    files '*' | grep / | grep -v '^\.' |
        awk -F/ '{ print $1 } NF > 2 { print $1 "/" $2 }' | sort -u |
        grep -vx include/wsurg
}

while read -r folder; do
    if [ ! -f "$folder/README.md" ]; then
        complain "$folder: no README.md"
    elif [ "$(wc -l <"$folder/README.md")" -gt 20 ] && [ "$folder" != examples/models ]
    then # that one carries the table of what its models can do
        complain "$folder/README.md: more than 20 lines"
    fi
done < <(folders)
verdict
