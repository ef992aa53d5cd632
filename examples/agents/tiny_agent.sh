#!/bin/sh
# A tiny agent without a model: reads the instruction, and acts where it knows the kind of task. It needs no more than
# POSIX sh, awk, sed and sort, so it runs in nearly every container.
set -eu

instruction=${HARBOR_INSTRUCTION_PATH:-/task/instruction.md}
# On one line, so that a sentence may be wrapped anywhere.
text=$(tr '\n' ' ' < "$instruction")

# find PATTERN: what the group in the (sed) pattern matches in the instruction; nothing if there is no match.
find() {
    printf '%s\n' "$text" | sed -n "s|.*$1.*|\\1|p"
}

# "Create the file `PATH` with exactly ...", and the content as an indented block.
file=$(find 'Create the file `\([^`]*\)` with exactly')
if [ -n "$file" ]; then
    echo "I write the indented block of the instruction to $file."
    awk '/^    / { print substr($0, 5); found = 1; next } found { exit }' "$instruction" > "$file"
    exit 0
fi

# "`DIRECTORY/` holds the access log ... the five clients with the most requests ... write them to `PATH`".
logs=$(find '`\([^`]*/\)` holds the access log')
output=$(find 'clients with the most requests.* write them to `\([^`]*\)`')
if [ -n "$logs" ] && [ -n "$output" ]; then
    echo "I count the requests per client in $logs and write the five highest numbers to $output."
    cat "$logs"* | awk '!/^#/ && $7 != "/healthz" { n[$1]++ } END { for (client in n) print n[client], client }' |
        LC_ALL=C sort -k1,1nr -k2,2 | head -n 5 > "$output"
    exit 0
fi

echo "I do not know how to do this and leave everything as it is."
