"""A service that converts US dollars to other currencies; its configuration can be reloaded while it runs."""

import json
import re
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal, InvalidOperation
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

CONFIG = Path("/app/rates.json")
ROUNDING = {"down": ROUND_DOWN, "half-up": ROUND_HALF_UP}


def load():
    """Return the configuration; raise ValueError if it is not valid."""
    config = json.loads(CONFIG.read_text(encoding="utf-8"))
    if not isinstance(config, dict) or config.keys() != {"valid_from", "fee_percent", "rounding", "rates"}:
        raise ValueError("the keys must be valid_from, fee_percent, rounding and rates")
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", str(config["valid_from"])):
        raise ValueError("valid_from must be a date, YYYY-MM-DD")
    if not re.fullmatch(r"\d\.\d\d", str(config["fee_percent"])):
        raise ValueError('fee_percent must be a string with two decimals, such as "2.50"')
    if config["rounding"] not in ROUNDING:
        raise ValueError(f"rounding must be one of {', '.join(ROUNDING)}")
    for currency, rate in config["rates"].items():
        if not re.fullmatch(r"[A-Z]{3}", currency) or not re.fullmatch(r"\d+\.\d{6}", str(rate)):
            raise ValueError(f'the rate of {currency} must be a string with six decimals, such as "0.920000"')
    return config


class Handler(BaseHTTPRequestHandler):
    config = load()

    def do_GET(self):
        url = urlsplit(self.path)
        query = {key: values[-1] for key, values in parse_qs(url.query).items()}
        if url.path == "/status":
            self.answer(200, {key: self.config[key] for key in ("valid_from", "fee_percent", "rounding")})
        elif url.path == "/quote":
            self.quote(query.get("amount", ""), query.get("to", ""))
        else:
            self.answer(404, {"error": "not found; use /status, /quote or /reload"})

    def do_POST(self):
        if self.path != "/reload":
            return self.answer(404, {"error": "only /reload accepts POST"})
        try:
            Handler.config = load()
        except (OSError, ValueError, AttributeError) as error:
            return self.answer(422, {"error": f"the old configuration is still active: {error}"})
        return self.answer(200, {"reloaded": True})

    def quote(self, amount, currency):
        config = self.config
        if currency not in config["rates"]:
            return self.answer(404, {"error": f"no rate for {currency!r}"})
        try:
            dollars = Decimal(amount)
            paid = dollars * (1 - Decimal(config["fee_percent"]) / 100) * Decimal(config["rates"][currency])
            result = paid.quantize(Decimal("0.01"), ROUNDING[config["rounding"]])
        except InvalidOperation:
            return self.answer(400, {"error": "amount must be a number"})
        return self.answer(200, {"amount": str(result), "currency": currency})

    def answer(self, status, content):
        body = json.dumps(content).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


ThreadingHTTPServer(("127.0.0.1", 8080), Handler).serve_forever()
