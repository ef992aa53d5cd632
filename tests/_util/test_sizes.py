"""Byte counts in messages."""

import pytest

from pytest_harbor._util.sizes import size_text


@pytest.mark.parametrize(
    "count, text",
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (1023, "1,023 bytes"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (64 << 20, "64 MiB"),
        (3 << 29, "1.5 GiB"),
        (2 << 40, "2048 GiB"),
    ],
)
def test_size_text(count, text):
    assert size_text(count) == text
