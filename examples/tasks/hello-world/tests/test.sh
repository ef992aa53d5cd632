#!/bin/bash
# Reward 1 when /app/hello.txt is a regular file with the wanted line, else 0.

reward=0
if [[ -f /app/hello.txt && ! -L /app/hello.txt ]]; then
    for wanted in 'Hello, Harbor!' $'Hello, Harbor!\n'; do
        if printf '%s' "$wanted" | cmp -s - /app/hello.txt; then
            reward=1
        fi
    done
fi

ls -l /app
if [[ $reward == 1 ]]; then
    echo "hello.txt is as wanted"
else
    echo "hello.txt is missing or differs; its bytes:"
    od -c /app/hello.txt
fi
echo "$reward" > /logs/verifier/reward.txt
