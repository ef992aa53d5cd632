"""Untrusted text, counts and lists in messages."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_harbor._util.text import (
    alternatives,
    attempt_label,
    escaped,
    listed,
    one_line,
    plural,
    printable,
    printable_name,
    shorten,
)

any_text = st.text(st.characters(exclude_categories=()))


@pytest.mark.parametrize(
    "text, expected",
    [
        ("plain ü 日本\ttab\n", "plain ü 日本\ttab\n"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07rest", "rest"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("one\r\ntwo\rthree", "one\ntwo\nthree"),
        ("bell\x07", "bell\ufffd"),
        ("\x00\x0b\x7f\x9b", "\ufffd" * 4),
        ("\ud800", "\ufffd"),
        ("\ufffe\uffff", "\ufffd" * 2),
    ],
)
def test_printable(text, expected):
    assert printable(text) == expected


@given(any_text)
def test_printable_text_is_valid_xml(text):
    ElementTree.fromstring(f"<x>{printable(text).replace('&', '').replace('<', '')}</x>")
    assert "\x1b" not in printable(text)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("", ""),
        ("  one\n\ttwo\r\nthree  ", "one two three"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("x" * 301, "x" * 299 + "…"),
    ],
)
def test_one_line(text, expected):
    assert one_line(text) == expected


def test_one_line_without_a_limit():
    assert one_line("x " * 1000, None) == " ".join("x" * 1000)


@given(any_text)
def test_one_line_is_one_printable_line(text):
    line = one_line(text)
    assert line.isprintable()
    assert len(line) <= 300


@pytest.mark.parametrize(
    "text, expected",
    [
        ("plain ü 日本", "plain ü 日本"),
        ("a\nb\tc", r"a\nb\tc"),
        ("\x1b[31m", r"\x1b[31m"),
        ("\u202e", r"\u202e"),
        ("\udcff", r"\udcff"),
    ],
)
def test_escaped(text, expected):
    assert escaped(text) == expected


def test_escaped_cuts_before_it_escapes():
    assert escaped("\n" * 5, 3) == r"\n\n…"


@given(any_text)
def test_escaped_text_is_printable(text):
    assert escaped(text).isprintable()


def test_printable_name():
    assert printable_name("a b\n\x1bü\ud800") == "a b__ü_"


@pytest.mark.parametrize("text, expected", [("", ""), ("abc", "abc"), ("abcd", "ab…")])
def test_shorten(text, expected):
    assert shorten(text, 3) == expected


@pytest.mark.parametrize(
    "arguments, expected",
    [
        ((0, "task"), "0 tasks"),
        ((1, "task"), "1 task"),
        ((1200, "task"), "1,200 tasks"),
        ((1, "retry", "retries"), "1 retry"),
        ((2, "retry", "retries"), "2 retries"),
    ],
)
def test_plural(arguments, expected):
    assert plural(*arguments) == expected


@pytest.mark.parametrize(
    "names, expected",
    [
        ([], ""),
        (["a"], "a"),
        (["a", "b"], "a, b"),
        (["a", "b", "c"], "a, b and 1 more"),
        (["a"] * 1234, "a, a and 1,232 more"),
    ],
)
def test_listed(names, expected):
    assert listed(names, 2) == expected


@pytest.mark.parametrize(
    "names, expected",
    [(["a"], "a"), (["a", "b"], "a or b"), (["auto", "docker", "namespace"], "auto, docker or namespace")],
)
def test_alternatives(names, expected):
    assert alternatives(names) == expected


@pytest.mark.parametrize(
    "agent, attempt, expected", [("", 1, ""), ("", 2, "2"), ("claude", 1, "claude"), ("claude", 2, "claude-2")]
)
def test_attempt_label(agent, attempt, expected):
    assert attempt_label(agent, attempt) == expected
