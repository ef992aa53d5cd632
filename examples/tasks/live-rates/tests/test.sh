#!/bin/bash
set -eu

python3 -I /tests/check.py
