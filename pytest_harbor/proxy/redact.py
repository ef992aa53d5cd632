"""Secrets, and what stands for them in whatever is written down."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping

# Anything shorter is no secret, and stands in many texts that have nothing to do with it.
SHORTEST = 8

_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL", re.IGNORECASE)


def secret_values(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that hold secrets, by the sound of their names."""
    return {name: value for name, value in variables.items() if _SECRET.search(name)}


class Redactor:
    """Replaces secrets by placeholders, and those of an agent's own back.

    Args:
        keys: pairs of a secret that no agent may have and the name of its placeholder.
        own: the same of secrets that the agent has.

    Of two pairs with the same secret the first counts; a secret that is too short is none.

    """

    def __init__(self, keys: Iterable[tuple[str, str]], own: Iterable[tuple[str, str]] = ()) -> None:
        pairs: dict[str, str] = {}
        self._own: dict[str, str] = {}
        for secrets, shown in ((keys, False), (own, True)):
            for text, name in secrets:
                if len(text) < SHORTEST or text in pairs:
                    continue
                pairs[text] = f"<{name}>"
                if shown:
                    # Answers are JSON.
                    self._own.setdefault(f"<{name}>", _in_json(text))
        for text, placeholder in list(pairs.items()):
            pairs.setdefault(_in_json(text), placeholder)
        # The longest first, as one may be a part of another.
        self._pairs = sorted(pairs.items(), key=lambda pair: -len(pair[0]))

    def hide(self, text: str) -> str:
        """Return a text with placeholders."""
        for secret, placeholder in self._pairs:
            text = text.replace(secret, placeholder)
        return text

    def show_bytes(self, data: bytes) -> bytes:
        """Return JSON with the agent's own secrets where their placeholders are."""
        for placeholder, secret in self._own.items():
            data = data.replace(placeholder.encode(), secret.encode())
        return data

    def hide_bytes(self, data: bytes) -> bytes:
        """Return data with placeholders."""
        for secret, placeholder in self._pairs:
            data = data.replace(secret.encode(), placeholder.encode())
        return data


def _in_json(text: str) -> str:
    return json.dumps(text)[1:-1]
