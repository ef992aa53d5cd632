"""What trials and runs may use of models."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal


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
        found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(tokens)?", text)
        amount = float(found[1]) if found else math.nan
        if found is None or not 0 < amount < math.inf:
            raise ValueError("use US dollars such as 12.50, or tokens such as 2000000tokens, above 0")
        return cls(amount, "tokens" if found[2] else "USD")

    def __str__(self) -> str:
        return f"{self.amount:,.0f} tokens" if self.unit == "tokens" else f"${self.amount:,.2f}"
