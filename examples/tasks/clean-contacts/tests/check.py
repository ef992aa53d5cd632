"""Compare the cleaned table with the expected one, row by row; write reward.json and ctrf.json.

No row of the input is clean already, so a plain copy of the input scores 0.
"""

import csv
import json
import time
from pathlib import Path

OUTPUT = Path("/app/contacts.clean.csv")
LOGS = Path("/logs/verifier")


def read(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return [row for row in csv.reader(file) if row]


def main() -> None:
    start = time.time()
    header, *expected = read(Path("/tests/expected.csv"))
    problem, rows = "", []
    try:
        found = read(OUTPUT)
        if found[:1] == [header]:
            rows = found[1:]
        else:
            problem = f"the header is {found[:1]}, not {header}"
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        problem = f"{OUTPUT} cannot be read: {error}"

    # Rows must be in order: a match must come after the previous match.
    tests, position = [], 0
    for want in expected:
        ok = want in rows[position:]
        if ok:
            position = rows.index(want, position) + 1
        same_id = [row for row in rows if row[0] == want[0]]
        message = "" if ok else problem or f"expected {want}, found {same_id or 'no such row'} (or out of order)"
        tests.append({"name": f"row {want[0]}", "status": "passed" if ok else "failed", "duration": 0, "message": message})
        print(tests[-1]["status"], tests[-1]["name"], message)

    rows_ok = sum(test["status"] == "passed" for test in tests)
    metrics = {
        "reward": rows_ok / max(len(expected), len(rows)),
        "rows_ok": rows_ok,
        "rows_total": len(expected),
        "rows_superfluous": max(0, len(rows) - len(expected)),
    }
    print(metrics)
    (LOGS / "reward.json").write_text(json.dumps(metrics) + "\n")
    summary = {"tests": len(tests), "passed": rows_ok, "failed": len(tests) - rows_ok}
    summary |= {"pending": 0, "skipped": 0, "other": 0, "start": int(start * 1000), "stop": int(time.time() * 1000)}
    report = {"results": {"tool": {"name": "clean-contacts"}, "summary": summary, "tests": tests}}
    (LOGS / "ctrf.json").write_text(json.dumps(report, indent=2) + "\n")


main()
