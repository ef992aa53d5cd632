"""Types of the values in task.toml: numbers, sizes, users, environment variables.

Each check raises a PydanticCustomError of type "expected"; describe_errors in validation.py formats it.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from pytest_harbor._util.seconds import bounded
from pytest_harbor.task.document import format_value

_SIZE = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?:(?P<unit>[KMGT])i?)?B?", re.IGNORECASE)
# What Docker accepts, and what every provider therefore accepts. Half of what fits into 64 bits is enough.
LOWEST_CPUS = 0.01
LOWEST_MEMORY_MB = 6
HIGHEST_MEMORY_MB = 2**42
_BYTES = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def _expected(expected: str, *, key: str | None = None, found: Any = None) -> PydanticCustomError:
    """Return the error for a value that is not what is expected.

    Checks that see a whole table pass the key and the value that they found there.
    """
    return PydanticCustomError(
        "expected", "must be {expected}", {"expected": expected, "key": key, "found": format_value(found)}
    )


def _number(value: Any, what: str = "a number", *, finite: bool = True) -> float:
    # Harbor reads a number in quotes. bool is an int in Python, but no number that somebody means.
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise _expected(what)
    try:
        number = float(value)
    except ValueError:
        raise _expected(what) from None
    except OverflowError:
        raise _expected(f"{what} of a usable size") from None
    if math.isnan(number) or (finite and math.isinf(number)):
        raise _expected("a finite number")
    return number


def _seconds(value: Any) -> float:
    # Infinity is a way to set no deadline.
    number = _number(value, finite=False)
    if number <= 0:
        raise _expected("a number above 0")
    return bounded(number)


def _not_negative(value: Any) -> float:
    number = _number(value)
    if number < 0:
        raise _expected("a number of 0 or more")
    return number


def _whole(value: Any) -> int:
    number = _number(value, "a whole number")
    if not number.is_integer() or number < 0:
        raise _expected("a whole number of 0 or more")
    return int(number)


def _whole_positive(value: Any) -> int:
    number = _whole(value)
    if number == 0:
        raise _expected("a whole number above 0")
    return number


def _cpus(value: Any) -> float:
    number = _number(value)
    if number < LOWEST_CPUS:
        raise _expected(f"a number of {LOWEST_CPUS:g} or more")
    return number


def _megabytes(value: Any) -> int:
    number = _whole(value)
    if number < LOWEST_MEMORY_MB:
        raise _expected(f"a whole number of {LOWEST_MEMORY_MB} or more")
    return min(number, HIGHEST_MEMORY_MB)


def _user(value: Any) -> str | int:
    if isinstance(value, bool) or not isinstance(value, (str, int)) or value == "":
        raise _expected("a user name or id")
    return _whole(value) if isinstance(value, int) else value


def _version(value: Any) -> str:
    # A version without quotes, `version = 1.0`, is common.
    return value if isinstance(value, str) else str(_number(value, "a version"))


def _env(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise _expected("a table")
    texts: dict[str, str] = {}
    for name, item in value.items():
        if not name or "=" in name or "\0" in name:
            raise PydanticCustomError(
                "env_name", "{name} cannot name an environment variable", {"name": format_value(name)}
            )
        if isinstance(item, bool):
            texts[name] = "true" if item else "false"
        elif isinstance(item, (int, float)) and (isinstance(item, float) or item.bit_length() <= 128):
            texts[name] = str(item)
        elif isinstance(item, str) and "\0" not in item:
            texts[name] = item
        else:
            raise _expected("a string without NUL, a number or a boolean", key=name, found=item)
    return texts


def _min_reward(value: Any) -> float | dict[str, float]:
    what = "a number or a table of numbers"
    if isinstance(value, dict):
        return {name: _number(item, what) for name, item in value.items()}
    return _number(value, what)


def size_mb(key: str, value: Any) -> int:
    """Convert ``2G``, ``512M``, ``1.5GB``, ``2Gi`` or plain bytes to MB, rounded up; units are powers of 1024.

    Raises:
        PydanticCustomError: the value is not a size, is zero, or is too large.

    """
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    size = float(match["number"]) * _BYTES.get((match["unit"] or "").upper(), 1) if match else 0.0
    if not 0 < size < math.inf:
        raise _expected('a size such as "2G" or "512M"', key=key, found=value)
    return math.ceil(size / 2**20)


Cpus = Annotated[float, BeforeValidator(_cpus)]
Seconds = Annotated[float, BeforeValidator(_seconds)]
Delay = Annotated[float, BeforeValidator(_not_negative)]
Memory = Annotated[int, BeforeValidator(_megabytes)]
Storage = Annotated[int, BeforeValidator(_whole_positive)]
Count = Annotated[int, BeforeValidator(_whole)]
User = Annotated[str | int, BeforeValidator(_user)]
Env = Annotated[dict[str, str], BeforeValidator(_env)]
MinReward = Annotated[float | dict[str, float], BeforeValidator(_min_reward)]
Version = Annotated[str, BeforeValidator(_version)]


def user_text(user: str | int | None) -> str | None:
    """Return a user as providers take it: a name, or an id as text; None stands for the image's own user."""
    return None if user is None else str(user)
