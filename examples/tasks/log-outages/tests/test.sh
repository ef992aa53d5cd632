#!/bin/bash
# Reward 1 and exit code 0 when the table is right, reward 0 and exit code 1 when not.

echo 0 > /logs/verifier/reward.txt
# Line ends of either kind are welcome, and the last one may be missing.
tr -d '\r' < /app/outages.csv | sed '$a\' | diff - /tests/expected.csv || exit 1
echo "all outages are right"
echo 1 > /logs/verifier/reward.txt
