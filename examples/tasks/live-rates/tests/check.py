"""Query the running service; reward 1 if every answer is right. The answers were calculated from the price list by hand."""

import http.client
import json
from pathlib import Path

STATUS = {"valid_from": "2025-07-01", "fee_percent": "1.75", "rounding": "half-up"}
QUOTES = {
    ("100", "EUR"): "83.60",
    ("1", "EUR"): "0.84",
    ("2500000", "EUR"): "2090069.79",
    ("19.99", "CHF"): "15.60",
    ("1000000", "GBP"): "728641.65",
    ("1", "JPY"): "153.97",
    ("333.33", "JPY"): "51323.73",
    ("1", "KRW"): "1415.30",
    ("75000", "KRW"): "106147363.84",
}
REMOVED = ["BGN", "USD"]


def get(path: str) -> tuple[int, dict]:
    connection = http.client.HTTPConnection("127.0.0.1", 8080, timeout=5)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    except (OSError, ValueError, http.client.HTTPException) as error:
        return 0, {"error": repr(error)}
    finally:
        connection.close()


def main() -> None:
    expected = {"/status": (200, STATUS)}
    for (amount, currency), result in QUOTES.items():
        expected[f"/quote?amount={amount}&to={currency}"] = (200, {"amount": result, "currency": currency})
    right = 0
    for path, answer in expected.items():
        found = get(path)
        print("ok   " if found == answer else "WRONG", path, found)
        right += found == answer
    for currency in REMOVED:
        found = get(f"/quote?amount=1&to={currency}")
        print("ok   " if found[0] == 404 else "WRONG", currency, found)
        right += found[0] == 404
    total = len(expected) + len(REMOVED)
    result = {"reward": float(right == total), "answers_ok": right, "answers_total": total}
    Path("/logs/verifier/reward.json").write_text(json.dumps(result) + "\n")


main()
