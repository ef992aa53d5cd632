"""A hypothesis strategy for Dockerfiles that are hard to parse."""

from hypothesis import strategies as st

LINES = st.sampled_from(
    [
        "FROM debian:12",
        "from debian AS first",
        "FROM --platform=linux/amd64 x",
        "# a comment",
        "#escape=`",
        "# escape = \\",
        "# syntax=docker/dockerfile:1",
        "",
        "   ",
        "\t",
        "RUN a && \\",
        "RUN a \\  ",
        "RUN a `",
        "  b \\",
        "  # within",
        "RUN <<EOF",
        "EOF",
        "\tEOF",
        "COPY <<-'EOF' /x",
        'RUN cat <<"A" <<B > /x',
        "A",
        "B",
        "from x",
        "HEALTHCHECK --interval=1s CMD true",
        'CMD ["a", "b"]',
        "RUN echo \\\\",
        "ENTRYPOINT /start.sh \\",
        'ENTRYPOINT ["/start.sh", "a\\\\b"]',
        "entrypoint []",
        "CMD\tserve \\",
        'SHELL ["/bin/bash", "-c"]',
        "\\",
        "ONBUILD RUN <<EOF",
        "RUN echo $((1 << 2)) <<<x",
        "ünïcode",
        "\ufeffFROM x",
    ]
)
ENDS = st.sampled_from(["\n", "\r\n", "\n\n"])


def _text(lines, ended: bool) -> str:
    text = "".join(line + end for line, end in lines)
    return text if ended else text.rstrip("\r\n")


TEXTS = st.builds(_text, st.lists(st.tuples(LINES, ENDS)), st.booleans())
