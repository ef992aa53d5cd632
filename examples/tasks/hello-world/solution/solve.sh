#!/bin/bash
set -eu

echo "Hello, Harbor!" > /app/hello.txt
