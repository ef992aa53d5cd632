#!/bin/bash
set -eu

cat > /app/slugify.py <<'PYTHON'
import re
import sys
import unicodedata

SPELLED_OUT = str.maketrans({"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "þ": "th"})


def slugify(title):
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", title).lower()).translate(SPELLED_OUT)
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter))
    return re.sub("[^a-z0-9]+", "-", plain).strip("-") or "untitled"


for line in sys.stdin.buffer.read().decode("utf-8").removesuffix("\n").split("\n"):
    print(slugify(line))
PYTHON
