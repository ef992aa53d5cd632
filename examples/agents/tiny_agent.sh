#!/bin/sh
# A tiny agent without a model: it reads the instruction and solves the kinds of tasks that it knows. It needs only POSIX
# sh, awk, sed and sort, so it runs in nearly every container.
set -eu

instruction=${HARBOR_INSTRUCTION_PATH:-/task/instruction.md}
# Joined into one line, so that sentences may be wrapped anywhere.
text=$(tr '\n' ' ' < "$instruction")

# find PATTERN: print what the group in the sed pattern matches in the instruction, if anything.
find() {
    printf '%s\n' "$text" | sed -n "s|.*$1.*|\\1|p"
}

# "Create the file `PATH` with exactly ...", and the content as an indented block.
file=$(find 'Create the file `\([^`]*\)` with exactly')
if [ -n "$file" ]; then
    echo "Writing the indented block of the instruction to $file."
    awk '/^    / { print substr($0, 5); found = 1; next } found { exit }' "$instruction" > "$file"
    exit 0
fi

# "`DIRECTORY/` holds the access log ... the five clients with the most requests ... write them to `PATH`".
logs=$(find '`\([^`]*/\)` holds the access log')
output=$(find 'clients with the most requests.* write them to `\([^`]*\)`')
if [ -n "$logs" ] && [ -n "$output" ]; then
    echo "Counting the requests per client in $logs and writing the top five to $output."
    cat "$logs"* | awk '!/^#/ && $7 != "/healthz" { n[$1]++ } END { for (client in n) print n[client], client }' |
        LC_ALL=C sort -k1,1nr -k2,2 | head -n 5 > "$output"
    exit 0
fi

echo "I don't know how to do this."
