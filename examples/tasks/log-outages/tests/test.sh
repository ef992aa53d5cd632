#!/bin/bash
# Reward 1 and exit code 0 if the table is right, else reward 0 and exit code 1.

echo 0 > /logs/verifier/reward.txt
# Accept both kinds of line endings, and a missing final newline.
tr -d '\r' < /app/outages.csv | sed '$a\' | diff - /tests/expected.csv || exit 1
echo "all outages are right"
echo 1 > /logs/verifier/reward.txt
