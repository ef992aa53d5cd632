#!/bin/sh
# Start the service in the background, then become the command that the container was started with.
set -eu

python3 -I /opt/rates/server.py > /var/log/rates.log 2>&1 &
exec "$@"
