from __future__ import annotations

import io
import json
import math
import os
import stat
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_harbor.environment.tar.unpack import Limits, unpack
from pytest_harbor.trial.reward import read_bounded, read_reward

NO_FILES = "test.sh wrote neither reward.txt nor reward.json; have it write one of them to /logs/verifier"


@pytest.fixture
def verifier(tmp_path):
    path = tmp_path / "verifier"
    path.mkdir()
    return path


def write(directory, txt=None, json_=None):
    for name, content in (("reward.txt", txt), ("reward.json", json_)):
        if content is not None:
            (directory / name).write_bytes(content if isinstance(content, bytes) else content.encode())


class TestTxt:
    @pytest.mark.parametrize(
        "text, value",
        [
            ("1", 1.0),
            ("0.5", 0.5),
            ("1e-3", 0.001),
            (" \n\t1\r\n", 1.0),
            ("+1.", 1.0),
            (".5", 0.5),
            ("0", 0.0),
            ("-0.0", 0.0),
            ("1E0", 1.0),
        ],
    )
    def test_valid(self, verifier, text, value):
        write(verifier, text)
        reward = read_reward(verifier)
        assert (reward.value, reward.problem, reward.warnings, reward.source) == (
            value,
            None,
            (),
            "reward.txt",
        )

    @pytest.mark.parametrize(
        "text",
        [
            "1 2",
            "true",
            "0x1",
            "1_0",
            "nan",
            "inf",
            "-Infinity",
            "1e400",
            "9" * 400,
            "1,5",
            "1\x00",
            "٣",
            "1\n2",
            "e1",
        ],
    )
    def test_invalid(self, verifier, text):
        write(verifier, text)
        reward = read_reward(verifier)
        assert reward.value is None
        assert reward.source is None
        assert reward.problem.startswith("reward.txt holds '")
        assert reward.problem.isprintable()
        assert len(reward.problem) < 300

    @pytest.mark.parametrize(
        "content, problem",
        [
            (b"", "reward.txt is empty; have test.sh write one number"),
            (b" \n", "reward.txt is empty; have test.sh write one number"),
            (b"\xff\xfe1", "reward.txt is not UTF-8 text; have test.sh write plain text"),
            (b"true", "reward.txt holds 'true', not one number; have test.sh write one number"),
            (b"\x1b[2J", "reward.txt holds '\\x1b[2J', not one number; have test.sh write one number"),
            (b"inf", "reward.txt holds 'inf', not one number; have test.sh write one number"),
            (b"1e999", "reward.txt holds '1e999', which is not finite; have test.sh write a finite number"),
            (
                b"0" * (10 * 2**20),
                "reward.txt is 10 MiB: too large (at most 1 MiB); have test.sh write a small regular file",
            ),
        ],
    )
    def test_problems(self, verifier, content, problem):
        write(verifier, content)
        assert read_reward(verifier).problem == problem

    def test_a_megabyte_of_digits_is_read_at_once(self, verifier):
        write(verifier, "0." + "1" * (2**20 - 2))
        assert read_reward(verifier).value == pytest.approx(1 / 9)

    def test_a_directory(self, verifier):
        (verifier / "reward.txt").mkdir()
        problem = "reward.txt is a directory; have test.sh write a small regular file"
        assert read_reward(verifier).problem == problem

    def test_a_link_on_the_host_is_not_followed(self, verifier):
        (verifier / "elsewhere").write_text("1")
        (verifier / "reward.txt").symlink_to("elsewhere")
        assert "is a symbolic link, which is not followed" in read_reward(verifier).problem

    def test_a_pipe_does_not_block(self, verifier):
        os.mkfifo(verifier / "reward.txt")
        assert "is not a regular file" in read_reward(verifier).problem

    def test_an_unreadable_file(self, verifier, monkeypatch):
        write(verifier, "1")

        def refuse(*args: object, **kwargs: object) -> int:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(os, "open", refuse)  # a mode would not stop root, who runs many a test suite
        assert "reward.txt cannot be read: Permission denied" in read_reward(verifier).problem


class TestJson:
    @pytest.mark.parametrize(
        "text, value, metrics",
        [
            ('{"reward": 1}', 1.0, {}),
            ('{"reward": 0.5, "time": 3, "cost": 0.1}', 0.5, {"time": 3.0, "cost": 0.1}),
            ("0.25", 0.25, {}),
            (" 1\n", 1.0, {}),
        ],
    )
    def test_valid(self, verifier, text, value, metrics):
        write(verifier, json_=text)
        reward = read_reward(verifier)
        assert (reward.value, reward.metrics, reward.problem) == (value, metrics, None)
        assert (reward.warnings, reward.source) == ((), "reward.json")
        assert all(type(number) is float for number in (reward.value, *reward.metrics.values()))

    @pytest.mark.parametrize(
        "text, kind",
        [
            ("true", "true"),
            ("null", "null"),
            ('"1"', "the string '1'"),
            ("[1]", "a list"),
            ("NaN", "not a number (NaN)"),
            ("-Infinity", "an infinite number"),
            ("1e400", "an infinite number"),
            (str(10**400), "an infinite number"),
            ("1" * 10_000, "an infinite number"),
        ],
    )
    def test_invalid_values(self, verifier, text, kind):
        write(verifier, json_=f'{{"reward": {text}}}')
        reward = read_reward(verifier)
        assert reward.value is None
        assert reward.problem == f'"reward" in reward.json is {kind}; have test.sh write a finite number'
        write(verifier, json_=text)
        assert read_reward(verifier).problem == f'reward.json holds {kind}; have test.sh write {{"reward": NUMBER}}'

    @pytest.mark.parametrize(
        "content, problem",
        [
            ("", "reward.json is empty;"),
            ("\n", "reward.json is empty;"),
            ("{", "reward.json is not valid JSON (Expecting property name"),
            ("\ufeff1", "reward.json is not valid JSON (Unexpected UTF-8 BOM"),
            (b"\xff", "reward.json is not UTF-8 text;"),
            ("[" * 100_000, "reward.json is nested too deeply;"),
            ('{"a":' * 100_000, "reward.json is nested too deeply;"),
            (b" " * (2**20 + 1), "reward.json is 1.0 MiB: too large (at most 1 MiB);"),
            ("{}", 'reward.json has no "reward" key (it is an empty object); set --harbor-reward-key'),
        ],
    )
    def test_problems(self, verifier, content, problem):
        write(verifier, json_=content)
        assert read_reward(verifier).problem.startswith(problem)

    @pytest.mark.parametrize(
        "text, tail",
        [
            ('{"score": 1, "time": 2}', "(found: score, time); set --harbor-reward-key"),
            ('{"score": 1, "name": "x"}', "(found: score, name); set --harbor-reward-key=score"),
            ('{"my score": 1}', "(found: my score); set --harbor-reward-key='my score'"),
            ('{"a\\u001b[2J\\ud800": 1}', "(found: a\\x1b[2J\\ud800); set --harbor-reward-key"),
            (
                json.dumps({f"k{i}": i for i in range(1200)}),
                "(found: k0, k1, k2, k3, k4, k5, k6, k7, k8, k9 and 1,190 more); set --harbor-reward-key",
            ),
        ],
    )
    def test_no_reward_key(self, verifier, text, tail):
        write(verifier, json_=text)
        reward = read_reward(verifier)
        assert reward.value is None
        assert reward.problem == f'reward.json has no "reward" key {tail}'

    def test_metrics_that_are_left_out(self, verifier):
        write(verifier, json_='{"reward": 1, "ok": 2, "b": true, "s": "x", "n": NaN, "": 1, "a\\nb": 1}')
        reward = read_reward(verifier)
        assert reward.metrics == {"ok": 2.0}
        assert reward.warnings == (
            'reward.json: ignored metric "b", "s", "n", "", "a\\nb": not a finite number, or not a usable name',
        )

    def test_repeated_keys(self, verifier):
        write(verifier, json_='{"reward": 0, "in": {"x": 1, "x": 2}, "reward": 1}')
        reward = read_reward(verifier)
        assert reward.value == 1
        assert reward.warnings[0] == 'reward.json has "reward" more than once; the last one counts'
        assert "x" not in reward.warnings[0].split()

    def test_repeated_keys_deeper_are_not_our_business(self, verifier):
        write(verifier, json_='{"reward": 1, "in": {"x": 1, "x": 2}}')
        assert not any("more than once" in warning for warning in read_reward(verifier).warnings)


class TestBoth:
    def test_neither(self, verifier):
        reward = read_reward(verifier)
        assert (reward.value, reward.problem, reward.source) == (None, NO_FILES, None)
        assert read_reward(verifier / "missing").problem == NO_FILES

    @pytest.mark.parametrize("precedence, value", [("txt", 1.0), ("json", 0.0)])
    def test_disagreement(self, verifier, precedence, value):
        write(verifier, "1", '{"reward": 0, "m": 3}')
        reward = read_reward(verifier, precedence=precedence)
        other = {"txt": "json", "json": "txt"}[precedence]
        assert (reward.value, reward.metrics, reward.source) == (value, {"m": 3.0}, f"reward.{precedence}")
        assert reward.warnings == (
            f"reward.{precedence} has {value:g} and reward.{other} has {1 - value:g}: reward.{precedence} is used",
        )

    @pytest.mark.parametrize("txt, json_", [("1", "1.0"), ("0.333333333", '{"reward": 0.3333333333333333}')])
    def test_agreement(self, verifier, txt, json_):
        write(verifier, txt, json_)
        assert read_reward(verifier).warnings == ()

    def test_an_invalid_preferred_file_is_never_replaced(self, verifier):
        write(verifier, "oops", '{"reward": 1}')
        reward = read_reward(verifier)
        assert reward.value is None
        assert reward.problem == (
            "reward.txt holds 'oops', not one number; have test.sh write one number; reward.json has 1, "
            "but reward.txt comes first: set --harbor-reward-precedence=json to use it"
        )
        assert read_reward(verifier, precedence="json").value == 1

    def test_an_invalid_json_first(self, verifier):
        write(verifier, "1", '{"score": 1}')
        reward = read_reward(verifier, precedence="json")
        assert reward.value is None
        assert reward.metrics == {"score": 1.0}
        assert reward.problem == (
            'reward.json has no "reward" key (found: score); set --harbor-reward-key=score; '
            "reward.txt has 1, but reward.json comes first: set --harbor-reward-precedence=txt to use it"
        )

    def test_an_invalid_second_file_is_a_warning(self, verifier):
        write(verifier, "1", "{")
        reward = read_reward(verifier)
        assert reward.value == 1
        (warning,) = reward.warnings
        assert warning.startswith("reward.json is not valid JSON")
        assert warning.endswith("(reward.txt is used)")

    def test_metrics_beside_a_reward_txt_are_no_warning(self, verifier):
        write(verifier, "1", '{"score": 0.5}')
        reward = read_reward(verifier)
        assert (reward.value, reward.metrics, reward.warnings) == (1.0, {"score": 0.5}, ())

    def test_the_absent_preferred_file(self, verifier):
        write(verifier, "0.5")
        assert read_reward(verifier, precedence="json").value == 0.5

    @pytest.mark.parametrize("text", ["1.5", "-0.5"])
    def test_outside_the_usual_range(self, verifier, text):
        write(verifier, text)
        reward = read_reward(verifier)
        assert reward.value == float(text)
        assert reward.warnings == (f"reward {text} of reward.txt is outside 0..1",)


class TestKey:
    @pytest.mark.parametrize("precedence", ["txt", "json"])
    def test_it_puts_the_json_first(self, verifier, precedence):
        write(verifier, "1", '{"score": 0.5, "reward": 0.25}')
        reward = read_reward(verifier, precedence=precedence, key="score")
        assert (reward.value, reward.source, reward.warnings) == (0.5, "reward.json", ())
        assert reward.metrics == {"reward": 0.25}

    def test_missing(self, verifier):
        write(verifier, "1", '{"reward": 1}')
        reward = read_reward(verifier, key="score")
        assert reward.value is None
        assert reward.problem == (
            'reward.json has no "score" key (found: reward); set --harbor-reward-key=reward; '
            "reward.txt has 1, but reward.json comes first"
        )

    def test_a_bare_number(self, verifier):
        write(verifier, json_="1")
        problem = 'reward.json is a bare number and has no "score" key; unset --harbor-reward-key'
        assert read_reward(verifier, key="score").problem == problem

    def test_without_a_json(self, verifier):
        write(verifier, "1")
        assert read_reward(verifier, key="score").value == 1


def tar(*infos):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content, kind in infos:
            info = tarfile.TarInfo(f"logs/{name}")
            info.type = kind
            info.linkname = "/solution/answer"
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


class TestSkipped:
    """With the notes as `unpack` really writes them."""

    def read(self, tmp_path, data, limits=Limits(), strip=1, **options):  # noqa: B008 - frozen
        done = unpack([data], tmp_path / "out", limits, strip=strip)
        root = tmp_path / "out" if strip else tmp_path / "out" / "logs"
        return read_reward(root / "verifier", skipped=done.skipped, **options)

    @pytest.mark.parametrize("strip", [0, 1])
    def test_a_link(self, tmp_path, strip):
        reward = self.read(tmp_path, tar(("verifier/reward.txt", b"", tarfile.SYMTYPE)), strip=strip)
        assert reward.problem == (
            "reward.txt is a symbolic link to /solution/answer, which is not followed; "
            "have test.sh write a regular file"
        )

    def test_a_link_is_present_though_not_followed(self, tmp_path):
        data = tar(("verifier/reward.json", b"1", tarfile.REGTYPE), ("verifier/reward.txt", b"", tarfile.LNKTYPE))
        assert self.read(tmp_path, data).value is None
        reward = self.read(tmp_path, data, precedence="json")
        assert reward.value == 1
        assert reward.warnings[0].startswith("reward.txt is a hard link to /solution/answer, which")

    def test_a_link_after_a_file_of_the_same_name(self, tmp_path):
        data = tar(("verifier/reward.txt", b"1", tarfile.REGTYPE), ("verifier/reward.txt", b"", tarfile.SYMTYPE))
        assert self.read(tmp_path, data).value is None

    def test_a_cut_number_is_no_number(self, tmp_path):
        data = tar(("verifier/reward.txt", b"0.95", tarfile.REGTYPE))
        reward = self.read(tmp_path, data, Limits(file_bytes=3))
        assert reward.value is None
        assert reward.problem == (
            "reward.txt was cut after 3 bytes (of 4 bytes), so that its content cannot be trusted"
        )
        assert self.read(tmp_path, data[:513]).problem.startswith("reward.txt was cut after 1 byte (of 4")

    def test_a_file_that_did_not_fit(self, tmp_path):
        data = tar(("verifier/reward.txt", b"0.95", tarfile.REGTYPE))
        problem = self.read(tmp_path, data, Limits(total_bytes=3)).problem
        assert problem == "reward.txt was not downloaded: 4 bytes do not fit in 3 bytes for all files"

    def test_a_link_elsewhere_does_not_matter(self, tmp_path):
        data = tar(
            ("agent/reward.txt", b"", tarfile.SYMTYPE),
            ("verifier/reward.txt.bak", b"", tarfile.SYMTYPE),
            ("verifier/reward.txt", b"1", tarfile.REGTYPE),
        )
        assert self.read(tmp_path, data).value == 1

    def test_the_directory_is_a_link(self, tmp_path):
        problem = self.read(tmp_path, tar(("verifier", b"", tarfile.SYMTYPE))).problem
        assert problem.startswith("the directory 'verifier' is a symbolic link to /solution/answer")

    def test_an_incomplete_download(self, tmp_path):
        data = tar(("agent/x", b"", tarfile.REGTYPE), ("verifier/reward.txt", b"1", tarfile.REGTYPE))
        reason = "the download is incomplete"
        assert reason in self.read(tmp_path, data, Limits(files=1)).problem

    def test_an_incomplete_download_of_the_other_file_only(self, tmp_path):
        data = tar(("verifier/reward.json", b"1", tarfile.REGTYPE), ("verifier/reward.txt", b"0", tarfile.REGTYPE))
        reward = self.read(tmp_path, data[:1024])
        assert reward.value == 1
        assert reward.warnings[0].startswith("reward.txt may be missing: the download is incomplete (")

    def test_an_incomplete_download_with_both_files(self, tmp_path):
        names = ("reward.json", "reward.txt", "zzz")
        data = tar(*((f"verifier/{name}", b"1", tarfile.REGTYPE) for name in names))
        reward = self.read(tmp_path, data, Limits(files=3))
        assert (reward.value, reward.warnings) == (1, ())

    def test_notes_without_the_directory(self, verifier):
        write(verifier, "1")
        assert read_reward(verifier, skipped=["reward.txt: symbolic link to x"]).value is None


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


class TestProperties:
    @settings(max_examples=300, deadline=None)
    @given(
        txt=st.none() | st.binary(max_size=30) | st.floats().map(lambda x: repr(x).encode()),
        json_=st.none()
        | st.binary(max_size=30)
        | JSON_VALUES.map(lambda x: json.dumps(x).encode())
        | st.dictionaries(st.sampled_from(["reward", "a", "b"]), JSON_VALUES).map(lambda x: json.dumps(x).encode()),
        precedence=st.sampled_from(["txt", "json"]),
        key=st.sampled_from([None, "a"]),
    )
    def test_never_raises_and_is_consistent(self, tmp_path_factory, txt, json_, precedence, key):
        directory = tmp_path_factory.getbasetemp() / "property"
        directory.mkdir(exist_ok=True)
        for name in ("reward.txt", "reward.json"):
            (directory / name).unlink(missing_ok=True)
        write(directory, txt, json_)
        reward = read_reward(directory, precedence=precedence, key=key)
        assert (reward.value is None) == (reward.problem is not None) == (reward.source is None)
        assert reward.value is None or math.isfinite(reward.value)
        assert all(math.isfinite(value) for value in reward.metrics.values())
        assert all(text.isprintable() for text in (reward.problem or "", *reward.warnings))


def test_read_bounded(tmp_path):
    (tmp_path / "f").write_bytes(b"1234")
    assert read_bounded(tmp_path / "f", 4) == (b"1234", None)
    assert read_bounded(tmp_path / "f", 3) == (None, "is 4 bytes: too large (at most 3 bytes)")
    assert read_bounded(tmp_path / "none", 4) == (None, None)
    assert stat.S_ISDIR(tmp_path.stat().st_mode)
    assert read_bounded(tmp_path, 4) == (None, "is a directory")
