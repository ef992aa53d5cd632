"""COPY and ADD in all their forms: the same files with each provider."""

import pytest

from pytest_harbor.environment import StartRequest
from pytest_harbor.errors import ImageError

FILES = {
    "a.txt": "a",
    "b.txt": "b",
    "!x.txt": "x",
    "[0].txt": "0",
    "star*.txt": "star",
    "two words.txt": "two",
    "dir__one": "1",
    "dir__sub__two": "2",
    "dir__.hidden": "h",
    "other__one": "3",
}
DOCKERFILE = r"""FROM BASE
ARG name=a
ENV where=/env
WORKDIR /w
COPY a.txt b.txt many/
COPY a.txt single
COPY ./a.txt /abs/name.txt
COPY ["$name.txt", "two words.txt", "$where/json/"]
COPY ${name}.txt $where/
COPY "a.txt" 'b.txt' /quoted/
COPY nothing*.txt a.txt /optional/
COPY [ab].txt /class/
COPY [!b].txt /bang/
COPY [^a].txt /caret/
COPY [[]0].txt /bracket/
COPY star\*.txt /escaped/
COPY ?.txt /question/
COPY nothing[0-9]* /none/
COPY dir /dir
COPY dir/ /dir-slash/
COPY dir other /both/
COPY d*r /glob
COPY dir/* /below/
COPY */one /ones/
COPY /a.txt /rooted/
COPY . /all
COPY --chown=games:1234 a.txt /owned/
ADD a.txt /added/
"""


EXPECTED = """\
abs
abs/name.txt
added
added/a.txt
all
all/!x.txt
all/Dockerfile
all/[0].txt
all/a.txt
all/b.txt
all/dir
all/dir/.hidden
all/dir/one
all/dir/sub
all/dir/sub/two
all/other
all/other/one
all/star*.txt
all/two words.txt
bang
bang/b.txt
below
below/.hidden
below/one
below/two
both
both/.hidden
both/one
both/sub
both/sub/two
bracket
bracket/[0].txt
caret
caret/b.txt
class
class/a.txt
class/b.txt
dir
dir-slash
dir-slash/.hidden
dir-slash/one
dir-slash/sub
dir-slash/sub/two
dir/.hidden
dir/one
dir/sub
dir/sub/two
env
env/a.txt
env/json
env/json/a.txt
env/json/two words.txt
escaped
escaped/star*.txt
glob
glob/.hidden
glob/one
glob/sub
glob/sub/two
ones
ones/one
optional
optional/a.txt
question
question/a.txt
question/b.txt
quoted
quoted/a.txt
quoted/b.txt
rooted
rooted/a.txt
w
w/many
w/many/a.txt
w/many/b.txt
w/single
/owned/a.txt 5:1234
"""


def test_forms(provider, build):
    image = build(DOCKERFILE, **FILES)
    environment = provider.start(image, StartRequest("copy-forms", "t/t", "r"))
    try:
        names = sorted({line.partition("/")[0] for line in EXPECTED.splitlines() if not line.startswith("/")})
        output = environment.exec(f"cd / && find {' '.join(names)} | LC_ALL=C sort; stat -c '%n %u:%g' /owned/*").output
    finally:
        environment.stop()
    assert output.splitlines() == sorted(EXPECTED.splitlines()[:-1]) + EXPECTED.splitlines()[-1:]


@pytest.mark.parametrize("instruction", ["COPY gone.txt /x", "COPY a.txt", 'COPY "a b" /x', "ADD [a-].txt /x"])
def test_wrong_forms(build, instruction):
    with pytest.raises(ImageError):
        build(f"FROM BASE\n{instruction}\n", **FILES)
