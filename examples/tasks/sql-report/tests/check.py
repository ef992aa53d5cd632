"""Run /app/report.sql on databases created here, as the agent could have changed its own; reward 1 if all results are right."""

import json
import sqlite3
import time
from pathlib import Path

LOGS = Path("/logs/verifier")
HEADER = ["id", "name", "orders", "revenue_cents"]
SCHEMA = """
CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE orders (id INTEGER PRIMARY KEY, customer_id INTEGER NOT NULL, status TEXT NOT NULL, discount_cents INTEGER);
CREATE TABLE items (order_id INTEGER NOT NULL, product TEXT NOT NULL, quantity INTEGER NOT NULL, unit_cents INTEGER NOT NULL);
"""
# name: customers, orders, items, expected
CASES = {
    "as in the image": (
        [(1, "Amina"), (2, "Bjarne"), (3, "Chen"), (4, "Dolores"), (5, "Chen")],
        [(10, 1, "paid", None), (11, 1, "paid", 500), (12, 1, "cancelled", None), (13, 2, "open", None), (14, 3, "paid", 0)]
        + [(15, 5, "paid", None)],
        [(10, "rope", 2, 1250), (10, "anchor", 1, 8900), (11, "buoy", 3, 1999), (12, "sail", 1, 45000), (13, "rope", 1, 1250)]
        + [(14, "compass", 1, 3300), (15, "lantern", 2, 1650)],
        [(1, "Amina", 2, 16897), (3, "Chen", 1, 3300), (5, "Chen", 1, 3300), (2, "Bjarne", 0, 0), (4, "Dolores", 0, 0)],
    ),
    "empty": ([], [], [], []),
    "one discount, many items": (
        [(7, "Ege")],
        [(1, 7, "paid", 100), (2, 7, "paid", 100), (3, 7, "open", 7000)],
        [(1, "a", 1, 1000), (1, "b", 1, 1000), (1, "b", 1, 1000), (2, "c", 4, 250), (3, "d", 1, 9000)],
        [(7, "Ege", 2, 3800)],
    ),
    "paid order without items": (
        [(1, "Farid"), (2, "Gita")],
        [(5, 1, "paid", 250), (6, 2, "paid", None)],
        [],
        [(2, "Gita", 1, 0), (1, "Farid", 1, -250)],
    ),
    "order of rows": (
        [(9, "Ivo"), (2, "Zora"), (5, "Ana"), (3, "Ivo")],
        [(1, 9, "paid", None), (2, 2, "paid", None), (3, 5, "cancelled", None), (4, 3, "paid", 1)],
        [(1, "x", 1, 500), (2, "x", 5, 100), (3, "x", 9, 999), (4, "x", 1, 502)],
        [(3, "Ivo", 1, 501), (2, "Zora", 1, 500), (9, "Ivo", 1, 500), (5, "Ana", 0, 0)],
    ),
}


def check(customers: list, orders: list, items: list, expected: list) -> str:
    """Return what is wrong, or an empty string."""
    shop = sqlite3.connect(":memory:")
    shop.executescript(SCHEMA)
    shop.executemany("INSERT INTO customers VALUES (?, ?)", customers)
    shop.executemany("INSERT INTO orders VALUES (?, ?, ?, ?)", orders)
    shop.executemany("INSERT INTO items VALUES (?, ?, ?, ?)", items)
    shop.commit()
    shop.execute("PRAGMA query_only = ON")
    deadline = time.monotonic() + 5
    shop.set_progress_handler(lambda: time.monotonic() > deadline, 10_000)
    try:
        cursor = shop.execute(Path("/app/report.sql").read_text(encoding="utf-8-sig"))
        columns = [column[0] for column in cursor.description or []]
        found = cursor.fetchmany(100)
    except (OSError, UnicodeDecodeError, ValueError, sqlite3.Error, sqlite3.Warning) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        shop.close()
    if columns != HEADER:
        return f"expected columns {HEADER}, found {columns}"
    return "" if found == expected else f"expected {expected}, found {found}"


def main() -> None:
    start, tests = time.time(), []
    for name, case in CASES.items():
        message = check(*case)
        tests.append({"name": name, "status": "failed" if message else "passed", "duration": 0, "message": message})
        print(tests[-1]["status"], name, message)
    passed = sum(test["status"] == "passed" for test in tests)
    summary = {"tests": len(tests), "passed": passed, "failed": len(tests) - passed}
    summary |= {"pending": 0, "skipped": 0, "other": 0, "start": int(start * 1000), "stop": int(time.time() * 1000)}
    report = {"results": {"tool": {"name": "sql-report"}, "summary": summary, "tests": tests}}
    (LOGS / "ctrf.json").write_text(json.dumps(report, indent=2) + "\n")
    (LOGS / "reward.txt").write_text("1\n" if passed == len(tests) else "0\n")


main()
