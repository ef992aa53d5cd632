#!/bin/bash
# Reward 1 when the five lines are right. The answer stands here, so that a changed log does not change it.

echo 0 > /logs/verifier/reward.txt
# A missing newline at the end is added.
diff <(sed '$a\' /app/top-clients.txt) - <<'WANTED' || exit 0
42 198.51.100.7
41 203.0.113.45
28 192.0.2.88
25 192.0.2.9
22 198.51.100.119
WANTED
echo "all five clients are right"
echo 1 > /logs/verifier/reward.txt
