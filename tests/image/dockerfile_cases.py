"""Generated Dockerfiles whose instructions set an image's configuration, in every notation that BuildKit accepts."""

from __future__ import annotations

import posixpath
import random
from collections.abc import Mapping, Sequence

NAMES = ("A", "B", "C_1", "lower", "PATH_X")
_VALUES = (
    *(
        "x",
        "two words",
        '"two words"',
        "'two words'",
        "a\\ b",
        '""',
        "''",
        "$A",
        "${A}",
        "${B}x",
        "$A$B",
        '"$A"',
        "'$A'",
    ),
    *("\\$A", "${A:-fall back}", "${nope:-$A}", "${nope:+x}", "${A:+set $B}", '"${A:+set}"', "a=b", "a#b", "'it''s'"),
    *(
        '"say \\"hi\\""',
        '"back\\\\slash"',
        "back\\\\slash",
        "\\a\\b",
        "$",
        "$$",
        "$1x",
        "é",
        "x\t y",
        "/a/b:/c",
        "a;b|c&d",
    ),
    *("{$A}", "%A%", "~", "*", "[x]", '["x"]', "<<EOF", "'$'"),
)
_WRONG = ("${nope", "'open", '"open', "${}", "${A:x}", "\\", "${A:?}", "x =y")
_BLANKS = (" ", " ", " ", "\t", "  ", " \\\n", "\t\\\n  ", " \\\n# comment\n ", " \\  \n")
_SHELLS = ('["/bin/bash", "-c"]', '["/bin/sh","-ec"]')
_ENTRYPOINTS = ('["a", "b c"]', '[ "$A" ]', 'exec $A "x"', "[]", "['a']")
_PATHS = ("/w", "sub", "../up", "/a/./b", "$A", "/x/$A", '"/quoted path"', "/sp ace", "/w/", "${nope:-/d}", ".", "/é")


def dockerfile(generator: random.Random, base: str) -> str:
    """Return a Dockerfile; not every one is valid."""

    def value() -> str:
        return generator.choice(_VALUES if generator.random() < 0.97 else _WRONG)

    def name() -> str:
        return generator.choice(NAMES)

    def blank() -> str:
        return generator.choice(_BLANKS)

    def pairs() -> str:
        return blank().join(f"{name()}={value()}" for _ in range(generator.randint(1, 3)))

    def instruction() -> str:
        keyword = generator.choice(
            [
                "ENV",
                "ENV",
                "ENV",
                "OLD",
                "OLD",
                "ARG",
                "ARG",
                "LABEL",
                "WORKDIR",
                "WORKDIR",
                "USER",
                "ENTRYPOINT",
                "SHELL",
            ]
        )
        if keyword == "OLD":
            return f"ENV{blank()}{name()}{blank()}{value()}"
        if keyword in ("ENV", "LABEL"):
            return f"{generator.choice([keyword, keyword.lower()])}{blank()}{pairs()}"
        if keyword == "ARG":
            return f"ARG {generator.choice([name(), f'{name()}={value()}', pairs()])}"
        if keyword == "WORKDIR":
            return f"WORKDIR{blank()}{generator.choice(_PATHS)}"
        if keyword == "USER":
            return f"USER {generator.choice(['nobody', '1000:1000', '${nope:-games}', ' x '])}"
        if keyword == "SHELL":
            return f"SHELL {generator.choice(_SHELLS)}"
        return f"ENTRYPOINT{blank()}{generator.choice(_ENTRYPOINTS)}"

    lines = [instruction() for _ in range(generator.randint(2, 6))]
    begin = generator.choice(["", "", "", "# comment\n", "ARG A=global\n", "\ufeff"])
    return f"{begin}FROM {base}\n" + generator.choice(["\n", "\n\n", "\n  ", "\n# comment\n"]).join(lines) + "\n"


def configuration(
    variables: Mapping[str, str], workdir: str, user: str, entrypoint: Sequence[str]
) -> dict[str, object]:
    """Return an image's configuration without what its base image sets."""
    return {
        "env": {name: value for name, value in variables.items() if name in NAMES},
        "workdir": posixpath.normpath(workdir or "/"),
        "user": user,
        "entrypoint": list(entrypoint),
    }
