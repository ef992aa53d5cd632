"""Images built without a container engine: instructions, the layer cache, and errors."""

import pytest

from pytest_harbor.environment.namespace import NamespaceProvider
from pytest_harbor.environment.namespace.cache import Cache
from pytest_harbor.environment.namespace.image_record import ImageRecord
from pytest_harbor.environment.shell_scripts import SYSTEM_PATH
from pytest_harbor.errors import ImageError
from pytest_harbor.image import BuildContext, ImageDetails


@pytest.fixture
def build_dockerfile(namespace, tmp_path):
    """Build a Dockerfile, and return the image's details and the build log."""

    def build_dockerfile(text, arguments=(), **files):
        directory = tmp_path / "context"
        directory.mkdir(exist_ok=True)
        (directory / "Dockerfile").write_text(text)
        for name, content in files.items():
            (directory / name).write_text(content)
        context = BuildContext(directory, tuple(arguments))
        ref = f"pytest-harbor:dockerfile-{context.digest[:20]}"
        namespace.build_image(context, ref, log=tmp_path / "log.txt", timeout=60)
        return namespace.find_image(ref), (tmp_path / "log.txt").read_text()

    return build_dockerfile


def test_image_details(build_dockerfile):
    details, _ = build_dockerfile(
        'FROM a AS b\nENV X=1 Y="two words"\nENV OLD old style\nWORKDIR /a\nWORKDIR b\nUSER games:games\n'
        "ENTRYPOINT exec $X\nHEALTHCHECK --interval=1s CMD true\nEXPOSE 80\nLABEL a=b\nSTOPSIGNAL INT\nCMD x\n"
    )
    own = {name: value for name, value in details.variables.items() if name != "PATH"}
    assert own == {"X": "1", "Y": "two words", "OLD": "old style"}
    assert (details.workdir, details.user) == ("/a/b", "games:games")
    assert details.entrypoint == ("/bin/sh", "-c", "exec $X")
    assert details.notes[0].startswith("a: this host's own system (")


def test_arguments(build_dockerfile):
    text = "ARG V=1\nFROM base:$V\nARG V\nARG W=w$V\nARG TARGETARCH\nRUN echo v=$V w=$W arch=$TARGETARCH\n"
    details, log = build_dockerfile(text, [("W", "given")])
    assert "v=1 w=given arch=" in log
    assert "base:1" in details.notes[0]
    assert "V" not in details.variables


def test_path_of_the_base_image(build_dockerfile):
    details, log = build_dockerfile('FROM a\nENV PATH="/opt/bin:$PATH"\nRUN cat /etc/os-release\n')
    assert details.variables["PATH"] == f"/opt/bin:{SYSTEM_PATH}"
    assert "PRETTY_NAME" in log


def test_the_later_of_arg_and_env_counts(build_dockerfile):
    _, log = build_dockerfile(
        "FROM a\nENV A=env B=env\nARG A=arg\nARG B\nRUN echo 1 $A $B\nENV A=again\nRUN echo 2 $A\n"
    )
    assert "1 arg env\n" in log
    assert "2 again\n" in log


def test_triggers_run_in_the_next_stage(build_dockerfile):
    text = "FROM a AS b\nONBUILD RUN echo on $A\nONBUILD ENV T=1\nFROM b AS c\nRUN echo c$T\nFROM c\nENV A=last\n"
    details, log = build_dockerfile(text)
    assert log.count("\non\n") == 1
    assert "c1\n" in log
    assert details.variables["T"] == "1"


@pytest.mark.parametrize("line", ["ONBUILD", "ONBUILD FROM a", "ONBUILD ONBUILD RUN true", "FROM a # comment"])
def test_instructions_with_wrong_words(build_dockerfile, line):
    with pytest.raises(ImageError, match=f"line 2: {line}"):
        build_dockerfile(f"FROM a\n{line}\n")


def test_layers_are_cached(build_dockerfile):
    text = "FROM x\nRUN echo layer-one >/one\nCOPY file /file\nRUN echo layer-two >/two\n"
    assert build_dockerfile(text, file="1")[1].count("cached") == 0
    repeated = build_dockerfile(text + "ENV A=1\nRUN echo $A\n", file="1")[1]
    assert repeated.count("  cached\n") == 3
    changed = build_dockerfile(text, file="2")[1]
    assert changed.count("  cached\n") == 1


def test_heredocs(build_dockerfile):
    _, log = build_dockerfile(
        "FROM x\nRUN <<EOF\nset -e\nwho=me\necho printed by $who\nEOF\n"
        "RUN <<EOF\n#!/usr/bin/env python3\nprint('printed by', 'python')\nEOF\n"
        "ENV NAME=name\nCOPY <<one <<'two' /files/\nis $NAME\none\nis $NAME\ntwo\n"
        "RUN cat /files/one /files/two\nRUN cat <<X | tr a-z A-Z\nloud\nX\n"
    )
    assert "printed by me\n" in log
    assert "printed by python\n" in log
    assert "is name\nis $NAME\n" in log
    assert "LOUD\n" in log


def test_copy_respects_dockerignore(build_dockerfile):
    _, log = build_dockerfile(
        "FROM x\nCOPY . /all\nRUN ls -A /all\n", **{".dockerignore": "Dockerfile\n*.md\n", "a.md": "", "b": ""}
    )
    assert log.rstrip().endswith(".dockerignore\nb")


def test_add_unpacks_archives_and_copy_does_not(build_dockerfile, tmp_path):
    import tarfile

    (tmp_path / "context").mkdir()
    (tmp_path / "member").write_text("packed")
    with tarfile.open(tmp_path / "context/a.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "member", "deep/member")
    _, log = build_dockerfile(
        "FROM x\nADD a.tar.gz /added/\nCOPY a.tar.gz /copied/\nRUN cat /added/deep/member; ls /copied\n"
    )
    assert "packed" in log
    assert log.rstrip().endswith("a.tar.gz")


@pytest.mark.parametrize(
    "text,problem",
    [
        ("FROM scratch\n", "line 1: FROM scratch: images always include this host's own system"),
        ("FROM x\n\nCOPY --from=alpine:3 /x /y\n", "line 3: COPY .*: --from=alpine:3 is not an earlier stage"),
        ("FROM x\nADD https://example.com/x /y\n", "line 2: ADD .*: only local files can be added"),
        ("FROM x\nRUN --mount=type=secret,id=a true\n", "line 2: RUN .*: --mount=type=secret,id=a"),
        ("FROM --platform=linux/vax x\n", "line 1: FROM .*: --platform=linux/vax: this machine is linux/"),
        ("FROM x\nFLY away\n", "line 2: FLY away: unknown instruction"),
        ("FROM x\nCOPY ../x /y\n", "line 2: COPY ../x /y: ../x is outside the build context"),
        ("FROM x\nUSER nosuch\nRUN true\n", "line 3: RUN true: unable to find user nosuch"),
        ("FROM x\nRUN exit 4\n", r"line 2: RUN exit 4: it exited with code 4: \(no output\)"),
        ("FROM x\nRUN <<EOF\n", "line 2: heredoc EOF is not terminated"),
        ("RUN true\n", "line 1: RUN comes before FROM"),
        ("# nothing\n", "it has no FROM"),
    ],
)
def test_error_names_line_and_instruction(build_dockerfile, text, problem):
    with pytest.raises(ImageError, match=problem):
        build_dockerfile(text)


def test_build_timeout(namespace, tmp_path):
    (tmp_path / "Dockerfile").write_text("FROM x\nRUN sleep 60\n")
    with pytest.raises(ImageError, match="took longer than 1 s"):
        namespace.build_image(BuildContext(tmp_path), "pytest-harbor:slow", log=tmp_path / "log", timeout=1)
    assert namespace.find_image("pytest-harbor:slow") is None


def test_failed_build_leaves_no_unfinished_layer(build_dockerfile, namespace):
    with pytest.raises(ImageError):
        build_dockerfile("FROM x\nRUN touch /x && exit 1\n")
    assert not [layer for layer in namespace._cache.layers.iterdir() if "." in layer.name]


def test_remove_images_returns_their_names(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    ImageRecord("pytest-harbor:abc-1", "base", (), ImageDetails(id="x")).write(Cache.open())
    provider = NamespaceProvider()
    assert provider.remove_images() == ["pytest-harbor:abc-1"]
    assert provider.remove_images() == []
