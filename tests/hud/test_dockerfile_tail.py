"""The last instructions of Dockerfile.hud: they need no shell, and run an ENTRYPOINT with the right one."""

from __future__ import annotations

import json

from pytest_harbor.hud.convert.dockerfile_tail import serve_lines, shell_before
from pytest_harbor.image.dockerfile import Dockerfile


def lines_of(text: str) -> tuple[list[str], list[list[str]]]:
    """Return the lines appended to a Dockerfile, and the words of their RUN instructions."""
    dockerfile = Dockerfile.parse(text)
    entrypoint = next((piece for piece in reversed(dockerfile.pieces) if piece.keyword == "ENTRYPOINT"), None)
    shell = shell_before(dockerfile, entrypoint) if entrypoint else ()
    lines = serve_lines(entrypoint, shell).splitlines()
    return lines, [json.loads(line.removeprefix("RUN ")) for line in lines if line.startswith("RUN ")]


def service(text: str) -> list[str]:
    """Return the command of the service to start in the background."""
    words = lines_of(text)[1][0]
    assert words[-2:] == ["sleep", "2147483647"]
    return words[4:-2]


def test_an_inherited_entrypoint_stays() -> None:
    lines, runs = lines_of("FROM x\n")
    assert not [line for line in lines if line.startswith(("ENTRYPOINT", "WORKDIR"))]
    assert lines[-1] == 'CMD ["/hud/.venv/bin/python", "-I", "/hud/env.py"]'
    assert all(words[:3] == ["/hud/.venv/bin/python", "-I", "-c"] for words in runs)
    # The record is written as the image's own user.
    assert lines.index("USER 0:0") > next(i for i, line in enumerate(lines) if line.startswith("RUN"))
    assert [piece.keyword for piece in Dockerfile.parse("\n".join(lines)).instructions].count("COPY") == 4


def test_entrypoint_words() -> None:
    assert service('FROM x\nENTRYPOINT ["/start", "a b", "\\"q\\""]\n') == ["/start", "a b", '"q"']
    assert service("FROM x\nENTRYPOINT /start $WHERE\n") == ["/bin/sh", "-c", "/start $WHERE"]
    shell = 'SHELL ["/bin/bash", "-ec"]'
    assert service(f"FROM x\n{shell}\nENTRYPOINT /start\n") == ["/bin/bash", "-ec", "/start"]
    assert service(f"FROM x AS one\n{shell}\nFROM one\nENTRYPOINT /start\n") == ["/bin/bash", "-ec", "/start"]
    assert service(f"FROM x\n{shell}\nFROM x\nENTRYPOINT /start\n{shell}\n") == ["/bin/sh", "-c", "/start"]


def test_a_bare_shell_is_not_a_service() -> None:
    text = 'FROM x\nENTRYPOINT ["bash"]\n'
    assert service(text) == []
    assert "ENTRYPOINT []" in lines_of(text)[0]
