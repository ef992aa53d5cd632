#!/bin/sh
# Start the service in the background, then run the container's command.
set -eu

python3 -I /opt/rates/server.py > /var/log/rates.log 2>&1 &
exec "$@"
