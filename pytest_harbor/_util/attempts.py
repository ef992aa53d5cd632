"""How often each agent attempts each task.

Standard library only: options are read in every project that has the plugin installed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Attempts:
    """A number of attempts, or the least and the most if the verdict of a gate decides.

    Attributes:
        least: the attempts that are always made.
        most: the attempts that are made if the verdict stays open.

    """

    least: int = 1
    most: int = 1

    @property
    def adaptive(self) -> bool:
        """Whether a run may end before it has made the most attempts."""
        return self.least < self.most

    def __str__(self) -> str:
        return f"{self.least}..{self.most}" if self.adaptive else str(self.most)

    @classmethod
    def parse(cls, text: str) -> Attempts:
        """Parse `3`, or `1..10`.

        Raises:
            ValueError: the text is neither; the message shows what is valid.

        """
        match = re.fullmatch(r"([0-9]{1,9})(?:\.\.([0-9]{1,9}))?", text)
        least, most = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 1 <= least <= most:
            raise ValueError("use a whole number from 1, or the least and the most as in 1..10")
        return cls(least, most)
