#!/bin/bash
set -eu

cat /app/logs/access.log.1 /app/logs/access.log |
    awk '!/^#/ && $7 != "/healthz" { count[$1]++ } END { for (client in count) print count[client], client }' |
    LC_ALL=C sort -k1,1nr -k2,2 | head -n 5 > /app/top-clients.txt
