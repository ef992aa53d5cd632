"""The adaptation of a task's Dockerfile."""

import pytest
from dockerfile_lines import TEXTS
from hypothesis import assume, example, given

from pytest_harbor.image.adaptation import KEEP_ALIVE, ORIGINAL, Adaptation
from pytest_harbor.image.dockerfile import Dockerfile
from pytest_harbor.image.words import DockerfileError

LEAN = Adaptation("lean", "layer:1", KEEP_ALIVE)
HUD = Adaptation("hud", "layer:1", ("serve",), early=("/hud",))
TAIL = [
    ("COPY", "--from=layer:1 /logs /logs"),
    ("LABEL", 'pytest-harbor.adapt="lean"'),
    ("CMD", '["sleep", "2147483647"]'),
]


def builder_view(dockerfile: Dockerfile) -> list[tuple]:
    """Return the instructions as a builder sees them."""
    return [(piece.keyword, piece.arguments, piece.heredocs) for piece in dockerfile.instructions]


def parsed(text: str) -> Dockerfile:
    try:
        return Dockerfile.parse(text)
    except DockerfileError:
        assume(False)
        raise


@given(TEXTS)
@example("FROM x\nRUN a \\")
@example("FROM x\nRUN a \\\n\n# b\n  # c")
@example("# escape=`\r\nFROM x\r\nRUN a `\r\n\r\n")
@example("FROM x\nRUN a && \\\n\\")
@example("FROM x\nENTRYPOINT a \\\n# b\n b\\")
@example("FROM x\nRUN <<EOF\nCMD no\nEOF")
def test_only_the_start_command_changes(text):
    original = parsed(text)
    adapted = Dockerfile.parse(LEAN.apply(text))
    if not original.stages:
        assert adapted.text == text
        return
    assert adapted.escape == original.escape
    begin = max(n for n, piece in enumerate(original.instructions) if piece.keyword == "FROM")
    everything = builder_view(original)
    kept = [each for n, each in enumerate(everything) if n < begin or each[0] not in ("CMD", "ENTRYPOINT")]
    replayed = [each for each in everything[begin:] if each[0] == "ENTRYPOINT"][-1:]
    tail = [(*each, ()) for each in TAIL]
    assert builder_view(adapted) == [*kept, *tail[:-1], *replayed, tail[-1]]


@given(TEXTS.map(lambda text: f"FROM x\n{text}"))
def test_the_original_start_command_is_kept_as_comments(text):
    original = parsed(text)
    adapted = LEAN.apply(text)
    begin = max(n for n, piece in enumerate(original.pieces) if piece.keyword == "FROM")
    for piece in original.pieces[begin:]:
        if piece.keyword in ("CMD", "ENTRYPOINT"):
            for line in piece.text.splitlines():
                assert f"{ORIGINAL}{line}" in adapted


def test_adapted_text():
    text = (
        "FROM golang AS build\n"
        'CMD ["stays", "it is another stage"]\n'
        "FROM debian:12\n"
        "COPY --from=build /x /x\n"
        "HEALTHCHECK --interval=5s \\\n"
        "  CMD curl localhost\n"
        'ENTRYPOINT ["/start.sh", \\\n'
        '  "--verbose"]\n'
        "USER nobody\n"
        "CMD\tserve\n"
    )
    assert LEAN.apply(text) == (
        "FROM golang AS build\n"
        'CMD ["stays", "it is another stage"]\n'
        "FROM debian:12\n"
        "COPY --from=build /x /x\n"
        "HEALTHCHECK --interval=5s \\\n"
        "  CMD curl localhost\n"
        '# [harbor original] ENTRYPOINT ["/start.sh", \\\n'
        '# [harbor original]   "--verbose"]\n'
        "USER nobody\n"
        "# [harbor original] CMD\tserve\n"
        "# ============================================================\n"
        "# pytest-harbor layer (lean)\n"
        "# ============================================================\n"
        "COPY --from=layer:1 /logs /logs\n"
        'LABEL pytest-harbor.adapt="lean"\n'
        'ENTRYPOINT ["/start.sh", \\\n'
        '  "--verbose"]\n'
        'CMD ["sleep", "2147483647"]\n'
    )


@given(TEXTS.map(lambda text: f"{text}\nFROM x"))
@example("FROM x \\\n")
def test_early_directories_come_before_the_final_stages_instructions(text):
    original = parsed(text)
    assume(original.stages)
    adapted = Dockerfile.parse(HUD.apply(text))
    begin = max(n for n, piece in enumerate(original.instructions) if piece.keyword == "FROM")
    assert builder_view(adapted)[: begin + 1] == builder_view(original)[: begin + 1]
    assert builder_view(adapted)[begin + 1] == ("COPY", "--from=layer:1 /hud /hud", ())


def test_a_directory_the_task_mentions_is_copied_last():
    adapted = Dockerfile.parse(HUD.apply("FROM x\nRUN mkdir /hud\n"))
    assert [piece.arguments for piece in adapted.instructions][1:4] == [
        "mkdir /hud",
        "--from=layer:1 /hud /hud",
        "--from=layer:1 /logs /logs",
    ]


def test_the_last_entrypoint_counts():
    adapted = Dockerfile.parse(LEAN.apply("FROM x\nENTRYPOINT a\nENTRYPOINT b\n"))
    assert [piece.arguments for piece in adapted.instructions if piece.keyword == "ENTRYPOINT"] == ["b"]


@pytest.mark.parametrize("text", ["", "RUN x\n", "# nothing\n", "ARG A=1\n"])
def test_a_dockerfile_without_a_stage_is_unchanged(text):
    assert LEAN.apply(text) == text


def test_unterminated_heredoc():
    with pytest.raises(DockerfileError, match="line 2: heredoc EOF is not terminated"):
        LEAN.apply("FROM x\nRUN <<EOF\n")


@pytest.mark.parametrize(
    "other",
    [
        Adaptation("hud", "layer:1", KEEP_ALIVE),
        Adaptation("lean", "layer:2", KEEP_ALIVE),
        Adaptation("lean", "layer:1", ("serve",)),
        Adaptation("lean", "layer:1", KEEP_ALIVE, early=("/hud",)),
        Adaptation("lean", "layer:1", KEEP_ALIVE, late=()),
    ],
)
def test_every_field_is_part_of_the_key(other):
    assert other.key != LEAN.key
