"""The Dockerfile scanner."""

import re

import pytest
from dockerfile_lines import TEXTS
from hypothesis import given
from hypothesis import strategies as st

from pytest_harbor.image.dockerfile import Dockerfile
from pytest_harbor.image.words import DockerfileError, expand, split_blanks, split_flags, split_words, unquote


@given(TEXTS)
def test_round_trip_of_dockerfiles(text):
    check_round_trip(text)


@given(st.text(alphabet=st.sampled_from("RUN COPY<-EOF\\`'\"#=[]$\t\r\n\x0b\x85\u2028\ufeffé")))
def test_round_trip_of_any_text(text):
    check_round_trip(text)


@given(st.binary())
def test_round_trip_of_any_bytes(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("dockerfile") / "Dockerfile"
    path.write_bytes(data)
    try:
        found = Dockerfile.read(path)
    except DockerfileError:
        return
    assert found.text.encode("utf-8", "surrogateescape") == data


def check_round_trip(text):
    try:
        found = Dockerfile.parse(text)
    except DockerfileError as error:
        assert re.search("is not terminated|escape (character|directive)", str(error))  # noqa: PT017 - nothing else may be raised
        return
    assert found.text == text
    line = 1
    for piece in found.pieces:
        assert piece.line == line
        line += piece.text.count("\n")


def scan(text):
    return [(piece.keyword, piece.arguments) for piece in Dockerfile.parse(text).instructions]


def test_continuations_comments_and_line_ends():
    text = "FROM x\r\nRUN a \\\r\n# not this\r\n\r\n  && b \\ \r\n\t&& c\r\nrun d\n"
    assert scan(text) == [("FROM", "x"), ("RUN", "a   && b \t&& c"), ("RUN", "d")]


def test_an_escaped_backslash_does_not_continue_a_line():
    assert scan("RUN a \\\\\nRUN b") == [("RUN", "a \\\\"), ("RUN", "b")]


def test_the_escape_directive():
    assert scan("# escape=`\nRUN dir C:\\\nRUN a `\n b") == [("RUN", "dir C:\\"), ("RUN", "a  b")]
    assert scan("# a comment\n# escape=`\nRUN a \\\n b") == [("RUN", "a  b")]


def test_heredocs():
    text = "FROM x\nRUN <<EOF cat <<-'B' > /y\nfrom nothing\n# kept\nEOF\n\tone\n\t\tB\nUSER u\n"
    piece = Dockerfile.parse(text).instructions[1]
    assert [(h.name, h.content, h.expand) for h in piece.heredocs] == [
        ("EOF", "from nothing\n# kept\n", True),
        ("B", "one\n", False),
    ]
    assert scan(text)[2] == ("USER", "u")
    with pytest.raises(DockerfileError, match="line 1: heredoc EOF is not terminated"):
        Dockerfile.parse("RUN <<EOF\nx\n")


def test_not_a_heredoc():
    text = "RUN echo '<<EOF' $((1 << 2)) <<<x\nENV A=<<EOF\nUSER u"
    assert [keyword for keyword, _ in scan(text)] == ["RUN", "ENV", "USER"]


def test_flags_and_json_lists():
    healthcheck, copy, run = Dockerfile.parse(
        'HEALTHCHECK --interval=5s --start-period=1s CMD ["a", "b"]\nCOPY --chown=a:b --link x y\nRUN ["a", "b c"]'
    ).instructions
    assert healthcheck.flags == (("interval", "5s"), ("start-period", "1s"))
    assert healthcheck.operands == 'CMD ["a", "b"]'
    assert (copy.flags, copy.operands) == ((("chown", "a:b"), ("link", "")), "x y")
    assert (run.words, copy.words) == (("a", "b c"), None)


def test_stages():
    first, second = Dockerfile.parse("ARG A\nFROM --platform=x a As Build\nRUN b\nfrom build\nUSER u").stages
    assert (first.base, first.name, [i.keyword for i in first.instructions]) == ("a", "build", ["RUN"])
    assert (second.base, second.name, [i.keyword for i in second.instructions]) == ("build", "", ["USER"])


@pytest.mark.parametrize(
    "word, expected",
    [
        ("$a/${b}", "1/2 3"),
        ("'$a'\"$a\"", "$a1"),
        (r"\$a \'", "$a '"),
        ("${no:-d$a}${no:+x}${a:+y}${e:-f}${e-g}", "d1yf"),
        ("$no$", "$"),
        ('a"b c"d', "ab cd"),
        ("${no-d}${e-d}${e+x}${no+x}", "dx"),
        ("${p#*/}|${p##*/}|${p%.*}|${p%%.*}|${p#x}", "b/c.tar.gz|c.tar.gz|a/b/c.tar|a/b/c|a/b/c.tar.gz"),
        (r"${p/b/X}|${p//\//:}|${p%.g?}|${p/*r/Y}", "a/X/c.tar.gz|a:b:c.tar.gz|a/b/c.tar|Y.gz"),
        (r'"\$a \" \x"', r'$a " \x'),
        (r"\a\\b", "a\\b"),
        ("$1$@x", "x"),
        ("${a:-'}'}${no:-\"}\"}", "1}"),
    ],
)
def test_variable_expansion(word, expected):
    assert expand(word, {"a": "1", "b": "2 3", "e": "", "p": "a/b/c.tar.gz"}) == expected


def test_unsupported_expansions_are_errors():
    for word in ("${a^x}", "${a", "${no:?gone}", "${no?}", "${}", "${:a}", "'a", '"a', "${a:#x}", "${a#\\x}"):
        with pytest.raises(DockerfileError):
            expand(word, {"a": "1"})


def test_heredocs_after_a_space():
    piece = Dockerfile.parse("RUN cat << EOF > /x\nfrom\nEOF\n").instructions[0]
    assert [(h.name, h.content) for h in piece.heredocs] == [("EOF", "from\n")]


@pytest.mark.parametrize("text", ["# escape=x\nFROM a", "# escape=`\n# escape=`\nFROM a"])
def test_invalid_directives(text):
    with pytest.raises(DockerfileError, match="escape"):
        Dockerfile.parse(text)


@pytest.mark.parametrize(
    "text, flags, rest",
    [
        ("--a=b  --c x", ["--a=b", "--c"], "x"),
        ("--a='b c' \"--d=e\" f", ["--a=b c"], '"--d=e" f'),
        ("--a=b\\ c d", ["--a=b c"], "d"),
        ("-- --x", [], "--x"),
        ("x --a", [], "x --a"),
    ],
)
def test_split_flags(text, flags, rest):
    assert split_flags(text) == (flags, rest)


def test_split_blanks():
    assert split_blanks("a\t 'b c'") == ["a", "'b", "c'"]
    assert split_blanks("a \t b  c", 1) == ["a", "b  c"]
    assert split_blanks("") == []


def test_unquote_leaves_variables():
    assert unquote("'a b'$c\"${d}\"") == "a b$c${d}"


def test_split_words():
    assert split_words("a 'b c' \"d  e\"f g\\ h") == ["a", "'b c'", '"d  e"f', "g\\ h"]
