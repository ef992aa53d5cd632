#!/bin/bash
# Reward 1 if the five lines are right. The answer is fixed here, so that changing the log does not change it.

echo 0 > /logs/verifier/reward.txt
# Add a missing final newline.
diff <(sed '$a\' /app/top-clients.txt) - <<'EXPECTED' || exit 0
42 198.51.100.7
41 203.0.113.45
28 192.0.2.88
25 192.0.2.9
22 198.51.100.119
EXPECTED
echo "all five clients are right"
echo 1 > /logs/verifier/reward.txt
