"""The original Dockerfile can be restored from a Dockerfile.hud."""

from __future__ import annotations

import os

import pytest
from dockerfile_lines import ENDS, LINES
from hypothesis import given
from hypothesis import strategies as st

from pytest_harbor.errors import ImageError
from pytest_harbor.hud.convert.dockerfile import Original, from_dockerfile
from pytest_harbor.image import BuildContext
from pytest_harbor.image.dockerfile import Dockerfile
from pytest_harbor.image.restore import BEGIN, END, LAYER_TITLE, NO_LINE_END, ConvertedContext, restore
from pytest_harbor.image.words import DockerfileError

_OURS = st.sampled_from(
    [
        "COPY . /app",
        "copy --chown=1:1 \\",
        "ADD ./ /app",
        "COPY --from=0 /a /b",
        "COPY --from=1 /a /b",
        "RUN --mount=type=bind,target=/src true",
        "# [harbor original] CMD x",
        BEGIN,
        END,
        NO_LINE_END,
        f"# {LAYER_TITLE}",
        f"# {'=' * 60}",
        "# Harbor environment base",
    ]
)


def _joined(lines, ended: bool) -> str:
    text = "".join(line + end for line, end in lines)
    return text if ended else text.rstrip("\r\n")


_SOME = st.lists(st.tuples(LINES | _OURS, ENDS))
_TEXTS = st.builds(
    lambda before, after, ended: _joined([*before, ("FROM x", "\n"), *after], ended), _SOME, _SOME, st.booleans()
)


@pytest.mark.slow
@given(_TEXTS)
def test_round_trip_is_byte_exact(text):
    try:
        converted = from_dockerfile(Original(text, "tb2/a/environment"))
    except DockerfileError:
        return
    assert restore(converted) == text


@pytest.mark.slow
@given(_TEXTS)
def test_generated_instructions_stay_separate(text):
    """Whatever comes before them, the generated instructions are parsed as instructions."""
    try:
        converted = from_dockerfile(Original(text, "tb2/a/environment"))
    except DockerfileError:
        return
    keywords = [piece.keyword for piece in Dockerfile.parse(converted).instructions]
    assert keywords[-1] == "CMD"
    own = Dockerfile.parse(text).stages
    added = [stage.name for stage in Dockerfile.parse(converted).stages if stage.name.startswith("harbor-")]
    assert len(Dockerfile.parse(converted).stages) == len(own) + len(added)
    assert added[:4] == ["harbor-layer-build-pins", "harbor-layer-build-build", "harbor-layer-build", "harbor-layer"]


# As `hud convert` writes it: lines are commented out wherever they are, and the last newline is lost.
_HUD_CONVERT = """\
# ============================================================
# Harbor environment base
# Source: /somewhere/environment
# ============================================================
FROM debian
HEALTHCHECK \\
# [harbor original]   CMD true
# [harbor original] ENTRYPOINT ["a",
  "b"]
# ============================================================
# HUD MCP server layer
# ============================================================
WORKDIR /hud
CMD ["uv"]
"""


def test_a_file_from_hud_convert_is_restored():
    assert restore(_HUD_CONVERT) == 'FROM debian\nHEALTHCHECK \\\n  CMD true\nENTRYPOINT ["a",\n  "b"]\n'


@pytest.fixture
def pair(tmp_path):
    """A build context, and the same context as a converted environment."""
    source, environment = tmp_path / "environment", tmp_path / "converted"
    text = "FROM debian\nCOPY . /app\nCMD x"
    for root in (source, environment):
        (root / "data" / "deep").mkdir(parents=True)
        (root / "data" / "deep" / "a.txt").write_text("a")
        (root / "data" / "link").symlink_to("nowhere")
        (root / "run.sh").write_text("#!/bin/sh\n")
        (root / "run.sh").chmod(0o755)
        (root / "data").chmod(0o700)
    (source / "Dockerfile").write_text(text)
    (source / "Dockerfile").chmod(0o600)
    (environment / "Dockerfile.hud").write_text(from_dockerfile(Original(text, "a/b")))
    (environment / "Dockerfile.hud").chmod(0o600)
    for name in ("env.py", "pyproject.toml", "Dockerfile.hud.dockerignore"):
        (environment / name).write_text("generated")
    (environment / "tasks" / "b" / "tests").mkdir(parents=True)
    (environment / "tasks" / "b" / "tests" / "test.sh").write_text("secret")
    return BuildContext(source), ConvertedContext(environment, name="Dockerfile.hud")


def test_a_converted_context_keeps_the_digest(pair):
    source, converted = pair
    assert converted.digest == source.digest


def test_materialized_without_generated_files(pair):
    source, converted = pair
    with converted.materialized() as context:
        assert sorted(context.files()) == sorted(source.files())
        assert context.dockerfile.read_text() == source.dockerfile.read_text()
        directory = context.path
    assert not directory.exists()


def test_materializing_does_not_change_the_environment(pair):
    _, converted = pair
    (converted.path / "Dockerfile").write_text("somebody else's")
    before = {path: path.lstat().st_mode for path in converted.path.rglob("*")}
    assert converted.digest
    assert {path: path.lstat().st_mode for path in converted.path.rglob("*")} == before
    assert (converted.path / "Dockerfile").read_text() == "somebody else's"


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read everything")
def test_unreadable_file_is_named(pair):
    _, converted = pair
    (converted.path / "run.sh").chmod(0)
    with pytest.raises(ImageError, match=r"run\.sh"):
        _ = converted.digest


def test_unterminated_heredoc_is_an_image_error(pair):
    _, converted = pair
    converted.dockerfile.write_text(f"{BEGIN}\nFROM a\nRUN <<EOF\n")
    with pytest.raises(ImageError, match="EOF"):
        _ = converted.digest
