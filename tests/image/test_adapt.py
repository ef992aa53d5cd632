"""What becomes of a task's Dockerfile."""

import pytest
from dockerfile_lines import TEXTS
from hypothesis import assume, example, given

from pytest_harbor.image.adaptation import KEEP_ALIVE, ORIGINAL, Adaptation
from pytest_harbor.image.dockerfile import Dockerfile, DockerfileError

LEAN = Adaptation("lean", "layer:1", KEEP_ALIVE)
HUD = Adaptation("hud", "layer:1", ("serve",), early=("/hud",))
TAIL = [
    ("COPY", "--from=layer:1 /logs /logs"),
    ("LABEL", 'pytest-harbor.adapt="lean"'),
    ("CMD", '["sleep", "2147483647"]'),
]


def said(dockerfile: Dockerfile) -> list[tuple]:
    """What a builder gets out of a Dockerfile."""
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
def test_a_builder_gets_the_same_instructions_but_for_the_start(text):
    original = parsed(text)
    adapted = Dockerfile.parse(LEAN.apply(text))
    if not original.stages:
        assert adapted.text == text
        return
    assert adapted.escape == original.escape
    begin = max(n for n, piece in enumerate(original.instructions) if piece.keyword == "FROM")
    everything = said(original)
    kept = [each for n, each in enumerate(everything) if n < begin or each[0] not in ("CMD", "ENTRYPOINT")]
    replayed = [each for each in everything[begin:] if each[0] == "ENTRYPOINT"][-1:]
    tail = [(*each, ()) for each in TAIL]
    assert said(adapted) == [*kept, *tail[:-1], *replayed, tail[-1]]


@given(TEXTS.map(lambda text: f"FROM x\n{text}"))
def test_what_was_taken_back_stays_readable(text):
    original = parsed(text)
    adapted = LEAN.apply(text)
    begin = max(n for n, piece in enumerate(original.pieces) if piece.keyword == "FROM")
    for piece in original.pieces[begin:]:
        if piece.keyword in ("CMD", "ENTRYPOINT"):
            for line in piece.text.splitlines():
                assert f"{ORIGINAL}{line}" in adapted


def test_an_adapted_dockerfile_reads_like_this():
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
def test_the_large_part_of_a_layer_comes_before_the_final_stages_own_instructions(text):
    original = parsed(text)
    assume(original.stages)
    adapted = Dockerfile.parse(HUD.apply(text))
    begin = max(n for n, piece in enumerate(original.instructions) if piece.keyword == "FROM")
    assert said(adapted)[: begin + 1] == said(original)[: begin + 1]
    assert said(adapted)[begin + 1] == ("COPY", "--from=layer:1 /hud /hud", ())


def test_a_task_that_has_a_directory_of_that_name_gets_it_last():
    adapted = Dockerfile.parse(HUD.apply("FROM x\nRUN mkdir /hud\n"))
    assert [piece.arguments for piece in adapted.instructions][1:4] == [
        "mkdir /hud",
        "--from=layer:1 /hud /hud",
        "--from=layer:1 /logs /logs",
    ]


def test_the_last_of_several_entrypoints_counts():
    adapted = Dockerfile.parse(LEAN.apply("FROM x\nENTRYPOINT a\nENTRYPOINT b\n"))
    assert [piece.arguments for piece in adapted.instructions if piece.keyword == "ENTRYPOINT"] == ["b"]


@pytest.mark.parametrize("text", ["", "RUN x\n", "# nothing\n", "ARG A=1\n"])
def test_without_a_stage_it_is_left_to_the_builder(text):
    assert LEAN.apply(text) == text


def test_a_heredoc_without_end_is_told():
    with pytest.raises(DockerfileError, match="line 2: the heredoc EOF does not end"):
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
def test_all_that_decides_about_an_image_is_in_the_key(other):
    assert other.key != LEAN.key
