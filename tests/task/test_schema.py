import datetime
import os
import string

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_harbor._util.seconds import LONGEST
from pytest_harbor.task import Task, TaskError
from pytest_harbor.task.schema import TaskConfig


@pytest.fixture
def load(write_task):
    def load(toml):
        return Task.load(write_task(toml=toml))

    return load


@pytest.fixture
def reason(load):
    def reason(toml):
        task = load(toml)
        with pytest.raises(TaskError) as caught:
            _ = task.config
        assert caught.value.path == task.toml_path
        assert str(caught.value) == f"{task.toml_path}: {caught.value.reason}"
        return caught.value.reason

    return reason


def test_defaults(load):
    config = load("").config
    assert config.agent.timeout_sec is None
    assert config.agent.user is None
    assert config.verifier.timeout_sec == 600.0
    assert config.verifier.env == {}
    assert config.verifier.separate is False
    assert config.environment.build_timeout_sec == 600.0
    assert config.environment.os == "linux"
    assert config.environment.network_mode == "public"
    assert config.environment.memory_mb is None
    assert config.steps == []
    assert config.artifacts == []


def test_every_table(load):
    task = load(
        """
        version = "1.0"
        artifacts = ["/app/out", {source = "/data", destination = "d", exclude = ["*.log"], service = "db"}]
        [task]
        name = "org/hello"
        keywords = ["a"]
        [agent]
        timeout_sec = 900
        user = 1000
        [verifier]
        timeout_sec = 12.5
        user = "nobody"
        env = {A = "x", B = 1, C = 1.5, D = true}
        [[verifier.collect]]
        command = "dump"
        [environment]
        docker_image = "debian:12"
        cpus = 2
        memory_mb = 2048.0
        storage_mb = 10240
        gpus = 1
        gpu_types = ["H100"]
        workdir = "/app"
        [[environment.mcp_servers]]
        name = "tool"
        transport = "http"
        url = "http://x"
        [environment.healthcheck]
        command = "true"
        retries = 5
        [solution]
        env = {KEY = "v"}
        """
    )
    config = task.config
    assert config.schema_version == "1.0"
    assert config.task.name == "org/hello"
    assert (config.agent.timeout_sec, config.agent.user) == (900.0, 1000)
    assert config.verifier.timeout_sec == 12.5
    assert config.verifier.env == {"A": "x", "B": "1", "C": "1.5", "D": "true"}
    assert config.verifier.user == "nobody"
    assert (config.verifier.collect[0].service, config.verifier.collect[0].timeout_sec) == ("main", 60.0)
    assert config.environment.docker_image == "debian:12"
    assert config.environment.cpus == 2.0
    assert config.environment.memory_mb == 2048
    assert isinstance(config.environment.memory_mb, int)
    assert config.environment.storage_mb == 10240
    assert config.environment.mcp_servers[0].transport == "streamable-http"
    assert config.environment.healthcheck is not None
    assert config.environment.healthcheck.retries == 5
    assert config.solution.env == {"KEY": "v"}
    first, second = config.artifacts
    assert (first.source, first.destination, first.exclude, first.service) == ("/app/out", None, [], "main")
    assert (second.source, second.destination, second.service) == ("/data", "d", "db")
    assert task.warnings == ()


@pytest.mark.parametrize(
    "text,megabytes",
    [
        ("2G", 2048),
        ("512M", 512),
        ("1.5GB", 1536),
        ("2Gi", 2048),
        ("2GiB", 2048),
        ("1g", 1024),
        ("6291456", 6),
        ("1 T", 2**20),
        ("6145K", 7),
    ],
)
def test_deprecated_sizes(load, text, megabytes):
    environment = load(f'[environment]\nmemory = "{text}"\nstorage = "{text}"\n').config.environment
    assert environment.memory_mb == megabytes
    assert environment.storage_mb == megabytes


def test_numbers_and_booleans_in_quotes(load):
    config = load(
        '[agent]\ntimeout_sec = "60"\n[verifier]\ntimeout_sec = " 1_000.5 "\n'
        '[environment]\nmemory_mb = "2048"\nstorage_mb = "10"\ncpus = "1.5"\ngpus = "1"\nbuild_timeout_sec = "6e1"\n'
        'allow_internet = "false"\n[environment.healthcheck]\ncommand = "true"\nretries = "5"\n'
    ).config
    environment = config.environment
    assert (config.agent.timeout_sec, config.verifier.timeout_sec, environment.build_timeout_sec) == (60, 1000.5, 60)
    assert (environment.memory_mb, environment.storage_mb) == (2048, 10)
    assert (environment.cpus, environment.gpus) == (1.5, 1)
    assert environment.healthcheck.retries == 5
    assert environment.allow_internet is False


@pytest.mark.parametrize("number", ["1e12", "inf", "1e300", '"inf"'])
def test_deadlines_of_any_length(load, number):
    assert load(f"[agent]\ntimeout_sec = {number}\n").config.agent.timeout_sec == LONGEST


def test_more_memory_than_a_machine_can_have(load):
    memory = load("[environment]\nmemory_mb = 1e30\n").config.environment.memory_mb
    assert 2**30 < memory * 2**20 < 2**63


def test_current_key_overrides_deprecated_one(load):
    task = load('[environment]\nmemory = "2G"\nmemory_mb = 512\n')
    assert task.config.environment.memory_mb == 512
    assert task.warnings == ("[environment] memory: ignored, because memory_mb is set too",)


def test_unknown_keys(load):
    task = load(
        """
        foo = 1
        artifacts = ["/a", {source = "/b", new = 1}]
        [metadata]
        anything = 1
        [agent]
        max_turns = 3
        [environment]
        env = {ANY = "1"}
        cpu = 2
        "odd key" = 1
        [verifier.environment]
        colour = "red"
        [[environment.mcp_servers]]
        name = "x"
        port = 1
        """
    )
    assert sorted(task.warnings) == sorted(
        [
            "foo: unknown key, ignored",
            "[artifacts[1]] new: unknown key, ignored",
            "[agent] max_turns: unknown key, ignored",
            '[environment] "odd key": unknown key, ignored',
            "[environment] cpu: unknown key, ignored; did you mean cpus?",
            "[verifier.environment] colour: unknown key, ignored",
            "[environment.mcp_servers[0]] port: unknown key, ignored",
        ]
    )


def test_unknown_table(load):
    assert load("[enviroment]\ncpus = 1\n").warnings == (
        "enviroment: unknown table, ignored; did you mean environment?",
    )


def test_unknown_key_next_to_a_wrong_value(load):
    with pytest.raises(
        TaskError, match=r"timeout_sec: must be a number, .*; \[environment\] cpu: unknown key; did you"
    ):
        _ = load('[agent]\ntimeout_sec = "abc"\n[environment]\ncpu = 1\n').config


def test_name_without_organization(load):
    assert load('[task]\nname = "hello"\n').warnings == (
        '[task] name: "hello" is not "org/name", so Harbor rejects this task',
    )


@pytest.mark.parametrize(
    "toml,expected",
    [
        ('[agent]\ntimeout_sec = "abc"', '[agent] timeout_sec: must be a number, got "abc"'),
        ("[agent]\ntimeout_sec = true", "[agent] timeout_sec: must be a number, got true"),
        ("[agent]\ntimeout_sec = nan", "[agent] timeout_sec: must be a finite number, got nan"),
        ('[agent]\ntimeout_sec = ""', '[agent] timeout_sec: must be a number, got ""'),
        ("[environment]\ncpus = inf", "[environment] cpus: must be a finite number, got inf"),
        ("[environment]\ncpus = 0.001", "[environment] cpus: must be a number of 0.01 or more, got 0.001"),
        ("[environment]\nmemory_mb = 1", "[environment] memory_mb: must be a whole number of 6 or more, got 1"),
        ('[environment]\nmemory_mb = "2.5"', '[environment] memory_mb: must be a whole number of 0 or more, got "2.5"'),
        ('[environment]\nmemory_mb = "2G"', '[environment] memory_mb: must be a whole number, got "2G"'),
        ("[verifier]\ntimeout_sec = 0", "[verifier] timeout_sec: must be a number above 0, got 0"),
        ("[verifier]\ntimeout_sec = -1.5", "[verifier] timeout_sec: must be a number above 0, got -1.5"),
        (
            "[environment]\nmemory_mb = 0.5",
            "[environment] memory_mb: must be a whole number of 0 or more, got 0.5",
        ),
        ("[environment]\nmemory_mb = 0", "[environment] memory_mb: must be a whole number of 6 or more, got 0"),
        (
            '[environment]\nmemory = "much"',
            '[environment] memory: must be a size such as "2G" or "512M", got "much"',
        ),
        ("[environment]\nmemory = 2", '[environment] memory: must be a size such as "2G" or "512M", got 2'),
        (
            '[environment]\nstorage = "0G"',
            '[environment] storage: must be a size such as "2G" or "512M", got "0G"',
        ),
        (
            '[environment]\nallow_internet = "perhaps"',
            '[environment] allow_internet: must be true or false, got "perhaps"',
        ),
        (
            '[environment]\nnetwork_mode = "x"',
            '[environment] network_mode: must be "public", "no-network" or "allowlist", got "x"',
        ),
        ("[environment]\ngpu_types = [1]", "[environment] gpu_types[0]: must be a string, got 1"),
        ("[environment]\nworkdir = 2026-01-02", "[environment] workdir: must be a string, got 2026-01-02"),
        ('agent = "x"', 'agent: must be a table, got "x"'),
        ("environment = []", "environment: must be a table, got a list"),
        ('metadata = "x"', 'metadata: must be a table, got "x"'),
        ("steps = 1", "steps: must be a list, got 1"),
        ("[verifier]\nenv = []", "[verifier] env: must be a table, got a list"),
        (
            "[verifier.env]\nA = {}",
            "[verifier.env] A: must be a string without NUL, a number or a boolean, got a table",
        ),
        ('[solution.env]\n"A=B" = "x"', '[solution] env: "A=B" cannot name an environment variable'),
        ("[agent]\nuser = 1.5", "[agent] user: must be a user name or id, got 1.5"),
        ("[agent]\nuser = true", "[agent] user: must be a user name or id, got true"),
        ("[[environment.mcp_servers]]\nurl = 'x'", "[environment.mcp_servers[0]] name: is missing"),
        ("artifacts = [1]", "artifacts[0]: must be a table, got 1"),
        ("artifacts = 'x'", 'artifacts: must be a list, got "x"'),
        (
            "[[steps]]\nname = 's'\nmin_reward = {reward = 'x'}",
            "[steps[0]] min_reward: must be a number or a table of numbers, got a table",
        ),
    ],
)
def test_wrong_values(reason, toml, expected):
    assert reason(toml) == expected


def test_long_values_are_shortened(reason):
    text = reason(f'[agent]\ntimeout_sec = "{"x" * 1000}"')
    assert text.startswith('[agent] timeout_sec: must be a number, got "xxx')
    assert text.endswith("…")
    assert len(text) < 120


def test_several_errors(reason):
    text = reason("[environment]\ngpu_types = [1, 2, 3, 4, 5, 6, 7]")
    assert text.count("must be a string") == 5
    assert text.endswith("; and 2 more")


@pytest.mark.parametrize(
    "toml,expected",
    [
        ("[agent]\ntimeout_sec = = 3", "line 2, column 15: "),
        ('a = 1\nb = "open', "line 2, column 10: "),
        ("a = 1\n[agent", "line 2, column 7: "),
        (b"a = 1\nb = '\xff'", "line 2: not UTF-8 (byte 0xff)"),
        ("a = '\0'", "line 1, column 6: "),
        ("a = 1\r\nb = = 2\r\n", "line 2, column 5: "),
        ("a = " + "[" * 5000 + "]" * 5000, "not valid TOML: nested too deeply"),
    ],
)
def test_position_of_syntax_errors(reason, toml, expected):
    assert reason(toml).startswith(expected)


@pytest.mark.parametrize("value", ["9" * 5000, "0x" + "f" * 5000, "9" * 400])
@pytest.mark.parametrize(
    "place",
    [
        "[agent]\ntimeout_sec",
        "[environment]\nmemory",
        "[verifier.env]\nA",
        "[agent]\nuser",
        "[verifier]\nenv",
    ],
)
def test_huge_integers(reason, place, value):
    text = reason(f"{place} = {value}")
    assert text
    assert len(text) < 200


def test_deeply_dotted_keys(reason):
    message = reason("[agent]\ntimeout_sec" + ".a" * 3000 + " = 1")
    # TOML parsers have different depth limits.
    assert "[agent] timeout_sec: must be a number, got a table" in message or "nested too deeply" in message


def test_byte_order_mark_and_crlf_are_accepted(load):
    task = load(b"\xef\xbb\xbf[agent]\r\ntimeout_sec = 5\r\n")
    assert task.config.agent.timeout_sec == 5.0


def test_any_metadata(load):
    metadata = load("[metadata]\nwhen = 2026-01-02\nat = 10:00:00\nmixed = [1, 'a', {b = 2}]").config.metadata
    assert metadata["when"] == datetime.date(2026, 1, 2)
    assert metadata["mixed"] == [1, "a", {"b": 2}]


def test_directory_named_task_toml(tmp_path):
    (tmp_path / "t" / "task.toml").mkdir(parents=True)
    with pytest.raises(TaskError, match=r"task\.toml: is not a file$"):
        _ = Task.load(tmp_path / "t").config


def test_fifo_named_task_toml_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "task.toml")
    with pytest.raises(TaskError, match="is not a file"):
        _ = Task.load(tmp_path).config


def test_broken_link_named_task_toml(tmp_path):
    link = tmp_path / "task.toml"
    link.symlink_to("nowhere")
    with pytest.raises(TaskError, match="the file is missing"):
        _ = Task.load(tmp_path).config
    link.unlink()
    link.symlink_to("task.toml")
    with pytest.raises(TaskError, match="cannot be read"):
        _ = Task.load(tmp_path).config


def test_unreadable_file(write_task):
    path = write_task() / "task.toml"
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read every file")
    with pytest.raises(TaskError, match="cannot be read: Permission denied"):
        _ = Task.load(path.parent).config


_SCALARS = (
    st.none().map(lambda _: {})
    | st.booleans()
    | st.integers()
    | st.integers(min_value=10**400, max_value=10**401)
    | st.floats()
    | st.text()
    | st.dates()
    | st.datetimes()
    | st.times()
)
_KEYS = st.text() | st.sampled_from(["name", "timeout_sec", "env", "command", "source", "user"])
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=3),
    max_leaves=8,
)


def _places(model, prefix=()):
    for key, part in model.model_fields.items():
        yield (*prefix, key)
        inner = part.annotation
        if isinstance(inner, type) and hasattr(inner, "model_fields"):
            yield from _places(inner, (*prefix, key))
    for key in model.old_names:
        yield (*prefix, key)


def _toml_string(text):
    escaped = "".join(c if c in string.ascii_letters + string.digits else f"\\U{ord(c):08x}" for c in text)
    return f'"{escaped}"'


def _toml(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml_string(key)} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return _toml_string(value)
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    return repr(value)


@settings(
    max_examples=400,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(place=st.sampled_from(sorted(_places(TaskConfig))), value=_VALUES)
def test_any_value_loads_or_is_a_task_error(tmp_path, place, value):
    (tmp_path / "task.toml").write_text(".".join(place) + " = " + _toml(value) + "\n", encoding="utf-8")
    task = Task(tmp_path)
    try:
        _ = (task.config, task.warnings, task.unsupported, task.tags, task.difficulty, task.category)
    except TaskError as error:
        found = error
    else:
        return
    assert found.path == task.toml_path
    # Otherwise the test wrote invalid TOML, which never reaches the schema.
    assert not found.reason.startswith(("line ", "not valid TOML"))
