#!/bin/bash
set -eu

cat /app/logs/access.log.1 /app/logs/access.log | awk '
    function clock(minute) { return sprintf("%02d:%02d", int(minute / 60), minute % 60) }
    function close_outage() { if (end) print clock(start) "," clock(end) "," total "," bad; end = 0 }

    /^#/ || $7 == "/healthz" { next }
    {
        split($4, part, ":")
        minute = part[2] * 60 + part[3]
        if (!first) first = minute
        last = minute
        requests[minute]++
        if ($9 >= 500 && $9 <= 599) failed[minute]++
    }
    END {
        print "start,end,requests,failed"
        for (minute = first; minute <= last; minute++) {
            if (requests[minute] < 4 || 2 * failed[minute] < requests[minute]) { close_outage(); continue }
            if (!end) { start = minute; total = bad = 0 }
            end = minute + 1
            total += requests[minute]
            bad += failed[minute]
        }
        close_outage()
    }' > /app/outages.csv
