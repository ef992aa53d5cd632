"""The conversion of a task's Dockerfile to a Dockerfile.hud."""

from __future__ import annotations

import pytest

from pytest_harbor.hud.convert.dockerfile import Original, from_dockerfile
from pytest_harbor.image.restore import restore
from pytest_harbor.image.words import DockerfileError


def instructions(text: str) -> list[str]:
    """Return the instructions of the task's own stages in the converted Dockerfile."""
    converted = from_dockerfile(Original(text, "tb2/a/environment"))
    assert restore(converted) == text
    body = converted.partition("# HUD MCP server layer")[0]
    lines = [line for line in body.splitlines() if line and not line.startswith("#")]
    starts = [number for number, line in enumerate(lines) if line.startswith(("FROM debian", "FROM one"))]
    return lines[starts[0] :]


def test_start_commands_of_the_final_stage_become_comments():
    text = 'FROM debian AS one\nCMD a\nFROM debian\nENTRYPOINT ["a", \\\n  "b"]\nCMD\tx\nRUN y\n'
    converted = from_dockerfile(Original(text, "tb2/a/environment"))
    assert '\n# [harbor original] ENTRYPOINT ["a", \\\n# [harbor original]   "b"]\n' in converted
    assert "\n# [harbor original] CMD\tx\n" in converted
    assert "\nCMD a\n" in converted


def test_directives_stay_first():
    text = "# syntax=docker/dockerfile:1\n# escape=`\n# mine\nFROM debian\nRUN a `\n b\n"
    assert from_dockerfile(Original(text, "tb2/a/environment")).startswith(
        "# syntax=docker/dockerfile:1\n# escape=`\n# ="
    )


@pytest.mark.parametrize(
    "original, converted",
    [
        ("COPY . /app", "COPY --from=harbor-context . /app"),
        ("copy --chown=1:1 ./ /app", "COPY --from=harbor-context --chown=1:1 ./ /app"),
        ("ADD . /app", "COPY --from=harbor-context . /app"),
        ('COPY [".", "/app"]', 'COPY --from=harbor-context [".", "/app"]'),
        ("COPY * /app/", "COPY --from=harbor-context * /app/"),
        ("COPY *.py /app/", "COPY --from=harbor-context *.py /app/"),
        ("COPY t?sks /app/", "COPY --from=harbor-context t?sks /app/"),
        ("COPY a/.. /app", "COPY --from=harbor-context a/.. /app"),
        ("COPY $X /app", "COPY --from=harbor-context $X /app"),
        ("COPY Dockerfile /app/", "COPY --from=harbor-context Dockerfile /app/"),
        ("RUN --mount=type=bind,target=/x y", "RUN --mount=type=bind,target=/x,from=harbor-context y"),
        ("COPY data /app", "COPY data /app"),
        ("COPY *.txt /app/", "COPY *.txt /app/"),
        ("COPY --from=one . /app", "COPY --from=one . /app"),
        ("ADD https://example.com/x /x", "ADD https://example.com/x /x"),
        ("RUN --mount=type=cache,target=/x y", "RUN --mount=type=cache,target=/x y"),
        ("RUN --mount=type=bind,source=data,target=/x y", "RUN --mount=type=bind,source=data,target=/x y"),
    ],
)
def test_generated_files_are_never_copied(original, converted):
    assert instructions(f"FROM debian AS one\nFROM debian\n{original}\n")[-1] == converted


def test_renumbered_stages():
    text = "FROM debian\nFROM debian\nCOPY . /x\nFROM debian\nCOPY --from=0 /a /a\nCOPY --from=1 /b /b\n"
    lines = instructions(text)
    assert [line for line in lines if line.startswith("COPY --from") and "harbor" not in line] == [
        "COPY --from=0 /a /a",
        "COPY --from=7 /b /b",
    ]


def test_onbuild_that_would_copy_generated_files_is_rejected():
    with pytest.raises(DockerfileError, match="ONBUILD COPY would also copy files"):
        from_dockerfile(Original("FROM debian AS one\nONBUILD COPY . /x\nFROM one\n", "x"))


def test_the_context_has_the_dockerfile_only_if_copy_can_see_it():
    text = "FROM debian\nCOPY . /x\n"
    assert "b64decode" in from_dockerfile(Original(text, "x"))
    assert "b64decode" not in from_dockerfile(Original(text, "x", copied=False))
