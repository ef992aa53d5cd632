"""The grammar of Dockerfiles without a container engine: BuildKit's answers, and what it knows of newer syntax."""

import json
import random
import subprocess
from pathlib import Path

import pytest
from dockerfile_cases import configuration, dockerfile

from pytest_harbor.environment.docker.build import has_buildx
from pytest_harbor.errors import ImageError
from pytest_harbor.image import BuildContext

# Written by scripts/record_buildkit.py.
ANSWERS = json.loads((Path(__file__).parents[1] / "image" / "buildkit_dockerfiles.json").read_text(encoding="utf-8"))
BASE = "debian:bookworm-slim"


@pytest.fixture
def ours(namespace, tmp_path):
    """Return what a Dockerfile sets if it is built without an engine; None if it is refused."""

    def ours(text):
        (tmp_path / "Dockerfile").write_bytes(text.encode())
        try:
            namespace.build_image(BuildContext(tmp_path), "pytest-harbor:grammar", log=tmp_path / "log", timeout=60)
        except ImageError:
            return None
        found = namespace.find_image("pytest-harbor:grammar")
        return configuration(found.variables, found.workdir, found.user, found.entrypoint)

    return ours


@pytest.mark.parametrize("case", ANSWERS, ids=range(len(ANSWERS)))
def test_answers_of_buildkit(ours, case):
    assert ours(case["text"]) == case["configuration"], case["text"]


@pytest.mark.engine
def test_generated_dockerfiles(ours, docker, tmp_path):
    if not has_buildx() or subprocess.run(["docker", "image", "inspect", BASE], capture_output=True).returncode:
        pytest.skip(f"docker buildx or {BASE} is missing")
    from buildkit import configuration_by_buildkit

    seed = random.randrange(10**9)
    generator = random.Random(seed)
    for _ in range(12):
        text = dockerfile(generator, BASE)
        answer = ours(text)
        assert answer == configuration_by_buildkit(tmp_path), f"seed {seed}: {text}"


@pytest.mark.parametrize(
    "instruction, named",
    [
        ("RUN --mount=type=bind,source=a,target=/a true", "--mount=type=bind"),
        ("RUN --mount=type=secret,id=x true", "--mount=type=secret"),
        ("RUN --network=none true", "--network=none"),
        ("RUN --security=insecure true", "--security=insecure"),
        ("COPY --parents a /x/", "--parents"),
        ("COPY --exclude=*.md . /x/", "--exclude"),
        ("COPY --from=nginx /a /b", "--from=nginx"),
        ("COPY --chmod=u+x Dockerfile /x", "--chmod=u+x"),
        ("ADD https://example.com/file /x", "only local files"),
        ("ADD --checksum=sha256:0 Dockerfile /x", "--checksum"),
        ("ADD --unpack=true Dockerfile /x", "--unpack"),
        ("ENV X", "ENV needs a name and a value"),
        ("ENV A=1 B", "B is not of the form name=value"),
        ("LABEL X", "LABEL needs a name and a value"),
        ('ENV A="x', "a double quote is not closed"),
        ("ENV A=${B", "} is missing"),
        ("ENV A=${B^^}", "${B^} does not exist"),
        ("ENV A=${B:?why}", "B: why"),
        ("RUN [1]", "may only hold strings"),
        ("SHELL /bin/sh", "SHELL needs a JSON array"),
        ("FRMO x", "unknown instruction"),
    ],
)
def test_what_cannot_be_honored_is_named(namespace, tmp_path, instruction, named):
    (tmp_path / "Dockerfile").write_text(f"FROM x\n\n{instruction}\n")
    with pytest.raises(ImageError) as caught:
        namespace.build_image(BuildContext(tmp_path), "pytest-harbor:grammar", log=tmp_path / "log", timeout=60)
    assert named in str(caught.value)
    assert "line 3: " in str(caught.value)
