"""Budgets for model calls, of a trial and of a whole run, and the ledger of what a run has used."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pytest_harbor._util.files import write_atomically
from pytest_harbor.trial import RUN_BUDGET, Usage


@dataclass(frozen=True)
class TrialBudget:
    """The limits of one trial; None means no limit.

    Attributes:
        turns: model calls that generate output.
        tokens: input and output tokens together.
        cost: US dollars.

    """

    turns: int | None = None
    tokens: int | None = None
    cost: float | None = None

    def spent_limit(self, turns: int, usage: Usage) -> str:
        """Return a phrase for the limit that rules out another call, or an empty string."""
        if self.turns is not None and turns >= self.turns:
            return f"--harbor-max-turns={self.turns} is spent"
        if self.tokens is not None and usage.tokens >= self.tokens:
            return f"--harbor-max-tokens={self.tokens} is spent ({usage.tokens:,} tokens)"
        if self.cost is not None and usage.cost is not None and usage.cost >= self.cost:
            return f"--harbor-max-cost={self.cost:g} is spent (${usage.cost:.4g})"
        return ""


@dataclass(frozen=True)
class SessionBudget:
    """The limit of all trials of a run together.

    Attributes:
        amount: the limit.
        unit: "USD", or "tokens" for input and output tokens together.

    """

    amount: float
    unit: Literal["USD", "tokens"]

    @classmethod
    def parse(cls, text: str) -> SessionBudget:
        """Parse `12.50` (US dollars) or `2000000tokens`.

        Raises:
            ValueError: the text is neither; the message gives examples.

        """
        match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(tokens)?", text, re.ASCII)
        amount = float(match[1]) if match else math.nan
        if match is None or not 0 < amount < math.inf:
            raise ValueError("use US dollars such as 12.50, or tokens such as 2000000tokens, above 0")
        return cls(amount, "tokens" if match[2] else "USD")

    def __str__(self) -> str:
        if self.unit == "tokens":
            return f"{self.amount:,.0f} tokens"
        # Two decimals would turn a fraction of a cent into $0.00.
        return (
            f"${self.amount:,.2f}" if self.amount >= 1 else f"${max(f'{self.amount:.2f}', f'{self.amount:g}', key=len)}"
        )


class Ledger:
    """The usage of a run so far, in a file that all workers share.

    Args:
        path: the file.
        budget: the budget of the run.

    """

    def __init__(self, path: Path, budget: SessionBudget) -> None:
        self._path = path
        self._budget = budget

    @property
    def in_dollars(self) -> bool:
        """Whether the budget is in US dollars."""
        return self._budget.unit == "USD"

    def spent_limit(self) -> str:
        """Return a phrase for the budget if it is spent, or an empty string.

        Raises:
            OSError: the file cannot be read.

        """
        used = self._used()
        if used < self._budget.amount:
            return ""
        amount = f"{used:,.0f} tokens" if self._budget.unit == "tokens" else f"${used:,.4g}"
        return f"{RUN_BUDGET} of {self._budget} is spent ({amount} used by this run)"

    def add(self, cost: float, tokens: int) -> None:
        """Add the usage of a call.

        Args:
            cost: US dollars.
            tokens: input and output tokens.

        Raises:
            OSError: the file cannot be read or written.

        """
        from filelock import FileLock

        self._path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self._path.with_name(f".{self._path.name}.lock")).acquire(poll_interval=0.005):
            used = self._used() + (cost if self.in_dollars else tokens)
            write_atomically(self._path, json.dumps({"used": used, "unit": self._budget.unit}) + "\n")

    def _used(self) -> float:
        try:
            return float(json.loads(self._path.read_text(encoding="utf-8"))["used"])
        except FileNotFoundError:
            return 0.0
        except (ValueError, KeyError, TypeError) as error:
            raise OSError(f"{self._path} is damaged: {error}") from error
