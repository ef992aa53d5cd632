#!/bin/bash
# Reward 1 if /app/hello.txt is a regular file with the expected line, else 0.

reward=0
if [[ -f /app/hello.txt && ! -L /app/hello.txt ]]; then
    for expected in 'Hello, Harbor!' $'Hello, Harbor!\n'; do
        if printf '%s' "$expected" | cmp -s - /app/hello.txt; then
            reward=1
        fi
    done
fi

ls -l /app
if [[ $reward == 1 ]]; then
    echo "hello.txt is correct"
elif [[ -e /app/hello.txt ]]; then
    od -c /app/hello.txt
    echo "hello.txt differs from the expected line"
else
    echo "hello.txt is missing"
fi
echo "$reward" > /logs/verifier/reward.txt
