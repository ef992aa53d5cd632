"""What trials and runs may use of models, and what a run has used."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pytest_harbor.trial import RUN_BUDGET, Usage


@dataclass(frozen=True)
class TrialBudget:
    """What one trial may use; None for no limit.

    Attributes:
        turns: calls in which a model writes something.
        tokens: of prompts and answers.
        cost: US dollars.

    """

    turns: int | None = None
    tokens: int | None = None
    cost: float | None = None

    def spent(self, turns: int, usage: Usage) -> str:
        """Return which limit leaves no room for a further call; empty for none."""
        if self.turns is not None and turns >= self.turns:
            return f"--harbor-max-turns={self.turns} is spent"
        if self.tokens is not None and usage.tokens >= self.tokens:
            return f"--harbor-max-tokens={self.tokens} is spent ({usage.tokens:,} tokens)"
        if self.cost is not None and usage.cost is not None and usage.cost >= self.cost:
            return f"--harbor-max-cost={self.cost:g} is spent (${usage.cost:.4g})"
        return ""


@dataclass(frozen=True)
class SessionBudget:
    """What all trials of a run together may use.

    Attributes:
        amount: how much.
        unit: of what: US dollars, or tokens of prompts and answers.

    """

    amount: float
    unit: Literal["USD", "tokens"]

    @classmethod
    def parse(cls, text: str) -> SessionBudget:
        """Read `12.50` (US dollars) or `2000000tokens`.

        Raises:
            ValueError: it is neither; the message says what one looks like.

        """
        found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(tokens)?", text, re.ASCII)
        amount = float(found[1]) if found else math.nan
        if found is None or not 0 < amount < math.inf:
            raise ValueError("use US dollars such as 12.50, or tokens such as 2000000tokens, above 0")
        return cls(amount, "tokens" if found[2] else "USD")

    def __str__(self) -> str:
        if self.unit == "tokens":
            return f"{self.amount:,.0f} tokens"
        # A few cents' worth must not read like nothing.
        return (
            f"${self.amount:,.2f}" if self.amount >= 1 else f"${max(f'{self.amount:.2f}', f'{self.amount:g}', key=len)}"
        )


class Ledger:
    """What a run has used so far, in a file that all its workers share.

    Args:
        path: the file.
        budget: what the run may use.

    """

    def __init__(self, path: Path, budget: SessionBudget) -> None:
        self._path = path
        self._budget = budget

    @property
    def in_dollars(self) -> bool:
        """Whether it counts money."""
        return self._budget.unit == "USD"

    def spent(self) -> str:
        """Return why nothing more may be used; empty while something may.

        Raises:
            OSError: the file cannot be read.

        """
        used = self._used()
        if used < self._budget.amount:
            return ""
        told = f"{used:,.0f} tokens" if self._budget.unit == "tokens" else f"${used:,.4g}"
        return f"{RUN_BUDGET} of {self._budget} is spent ({told} used by this run)"

    def add(self, cost: float, tokens: int) -> None:
        """Take note of what a call has used: US dollars and tokens.

        Raises:
            OSError: the file cannot be written.

        """
        from filelock import FileLock

        self._path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self._path.with_name(f".{self._path.name}.lock")).acquire(poll_interval=0.005):
            used = self._used() + (cost if self.in_dollars else tokens)
            scratch = self._path.with_name(f".{self._path.name}.tmp")
            scratch.write_text(json.dumps({"used": used, "unit": self._budget.unit}) + "\n", encoding="utf-8")
            scratch.replace(self._path)

    def _used(self) -> float:
        try:
            return float(json.loads(self._path.read_text(encoding="utf-8"))["used"])
        except FileNotFoundError:
            return 0.0
        except (ValueError, KeyError, TypeError) as error:
            raise OSError(f"{self._path} is damaged: {error}") from error
