#!/bin/bash
set -eu

python3 - <<'PYTHON'
import csv
import re


def phone(text):
    digits = re.sub(r"\D", "", text)
    if text.strip().startswith("+"):
        return "+" + digits
    if digits.startswith("00"):
        return "+" + digits[2:]
    return "+49" + digits.removeprefix("0")


def date(text):
    if "." in text:
        day, month, year = text.split(".")
    elif "/" in text:
        month, day, year = text.split("/")
    else:
        year, month, day = text.split("-")
    return f"{int(year):04}-{int(month):02}-{int(day):02}"


seen = set()
with open("/app/contacts.csv", encoding="utf-8", newline="") as source:
    with open("/app/contacts.clean.csv", "w", encoding="utf-8", newline="") as target:
        reader = csv.DictReader(source)
        writer = csv.DictWriter(target, reader.fieldnames, lineterminator="\n")
        writer.writeheader()
        for row in reader:
            email = row["email"].strip().lower()
            if email in seen:
                continue
            seen.add(email)
            row |= {"name": " ".join(row["name"].split()), "email": email}
            row |= {"phone": phone(row["phone"]), "joined": date(row["joined"].strip())}
            writer.writerow(row)
PYTHON
