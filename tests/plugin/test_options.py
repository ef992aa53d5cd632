"""Every option: flag, ini key, precedence and invalid values."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest

from pytest_harbor._util.attempts import Attempts
from pytest_harbor.gate import GateSpec, Limit
from pytest_harbor.plugin.options import config as options
from pytest_harbor.plugin.options.option import Option
from pytest_harbor.plugin.options.table import OPTIONS, HarborConfig
from pytest_harbor.proxy.budget import SessionBudget
from pytest_harbor.task.shards import Shard

# For each option: two values, what they parse to, and invalid values with what the message must contain.
FLOATS = ("0.25", "0.5", 0.25, 0.5)
NOT_POSITIVE = {bad: ["a number above 0"] for bad in ("0", "-1", "nan", "inf", "-inf", "many", "1e999")}
URLS = ("http://localhost:8000/v1/", "https://a.example", "http://localhost:8000/v1", "https://a.example")
NO_URL = {bad: ["http(s)://HOST"] for bad in ("localhost:8000", "ftp://a", "http://", "http://a?b", "http://u:p@a")}
CASES: dict[str, tuple] = {
    "harbor-dataset": ("one", "two", None, None, {}),
    "harbor-taskset": ("one.json", "two.json", None, None, {}),
    "harbor-task": ("a*", "b*", ("a*",), ("b*",), {}),
    "harbor-exclude-task": ("a*", "b*", ("a*",), ("b*",), {}),
    "harbor-shard": (
        "1/2",
        "3/3",
        Shard(1, 2),
        Shard(3, 3),
        {bad: ["NUMBER/COUNT"] for bad in ("0/2", "3/2", "1", "1/0", "a/b", "1/2/3", "-1/2", "1.0/2", "\u0661/2")},
    ),
    "harbor-agent": (
        "oracle",
        "nop",
        "oracle",
        "nop",
        {bad: ["oracle", "nop", "command", "MODULE:CALLABLE"] for bad in ("oracel", "ORACLE", "mod:", ":f")},
    ),
    "harbor-agent-command": ("run one", "run two", "run one", "run two", {}),
    "harbor-agent-name": ("one", "two", "one", "two", {}),
    "harbor-agent-where": (
        "host",
        "container",
        "host",
        "container",
        {bad: ["container", "host"] for bad in ("Host", "cloud")},
    ),
    "harbor-agent-env": (
        "K=v=w",
        "K=",
        (("K", "v=w"),),
        (("K", ""),),
        {bad: ["NAME=VALUE"] for bad in ("1K=v", "=v", "A-B=1", "")},
    ),
    "harbor-agent-workdir": ("/one", "/two", "/one", "/two", {}),
    "harbor-agent-setup": ("pip install one", "two; three", "pip install one", "two; three", {}),
    "harbor-agent-files": (
        "/a:/b/",
        "/c:d:/e",
        ((Path("/a"), "/b"),),
        ((Path("/c:d"), "/e"),),
        {bad: ["SRC:DST"] for bad in ("one", "a:b", ":/a", "a:/", "a:/b/../c", "a:")},
    ),
    "harbor-agents": ("one", "two", None, None, {}),
    "harbor-check-model": ("probe", "off", "probe", "off", {"never": ["list", "probe", "off"]}),
    "harbor-proxy": (
        "live",
        "record",
        "live",
        "record",
        {bad: ["off", "live", "record", "replay", "auto"] for bad in ("on", "LIVE")},
    ),
    "harbor-cassettes": ("one", "two", None, None, {}),
    "harbor-proxy-log": ("meta", "off", "meta", "off", {bad: ["full", "meta", "off"] for bad in ("none", "OFF")}),
    "harbor-openai-base-url": (*URLS, NO_URL),
    "harbor-openai-key": ("KEY_1", "_K", "KEY_1", "_K", {}),
    "harbor-anthropic-base-url": (*URLS, NO_URL),
    "harbor-anthropic-key": ("KEY_1", "_K", "KEY_1", "_K", {}),
    "harbor-prices": ("one", "two", None, None, {}),
    "harbor-max-turns": ("3", "1", 3, 1, {bad: ["a whole number from 1"] for bad in ("0", "1.5", "x")}),
    "harbor-max-tokens": ("3", "1", 3, 1, {bad: ["a whole number from 1"] for bad in ("0", "1.5", "x")}),
    "harbor-max-cost": (*FLOATS, NOT_POSITIVE),
    "harbor-session-budget": (
        "12.50",
        "2000tokens",
        SessionBudget(12.5, "USD"),
        SessionBudget(2000, "tokens"),
        {bad: ["US dollars such as 12.50", "2000000tokens"] for bad in ("0", "-1", "5 EUR", "tokens", "nan", "1e3")},
    ),
    "harbor-model": ("one", "two", "one", "two", {}),
    "harbor-attempts": (
        "3",
        "1..10",
        Attempts(3, 3),
        Attempts(1, 10),
        {
            bad: ["a whole number from 1, or the least and the most as in 1..10"]
            for bad in ("0", "-1", "1.5", "x", "\u0661", "0..3", "3..2", "1..", "..3", "1...3", "1..2..3", "1 .. 3")
        },
    ),
    "harbor-threshold": (*FLOATS, {bad: ["a number such as 1.0"] for bad in ("high", "nan", "inf")}),
    "harbor-baseline": ("one", "two", None, None, {}),
    "harbor-save-baseline": ("one", "two", None, None, {}),
    "harbor-update-baseline": (
        "add",
        "replace",
        "add",
        "replace",
        {bad: ["replace or add"] for bad in ("true", "tb2")},
    ),
    "harbor-gate": (
        "drop=0.1",
        "each",
        GateSpec(drop=0.1),
        GateSpec(each=True),
        {bad: ["drop=SHARE", "alpha=SHARE", "pass-rate=SHARE", "each"] for bad in ("drop", "drop=2", "most")},
    ),
    "harbor-inconclusive": ("pass", "fail", "pass", "fail", {"skip": ["fail", "pass"]}),
    "harbor-junit-properties": ("off", "on", "off", "on", {"no": ["on", "off"]}),
    "harbor-max-infra-errors": (
        "3",
        "10%",
        Limit(3, share=False),
        Limit(0.1),
        {bad: ["a number of trials such as 3", "a share such as 0.1 or 10%"] for bad in ("-1", "2.5", "x", "200%")},
    ),
    "harbor-min-coverage": (
        "0.5",
        "90%",
        0.5,
        0.9,
        {bad: ["a share such as 0.8 or 80%"] for bad in ("-1", "2", "x", "200%")},
    ),
    "harbor-confirm": ("3", "0", 3, 0, {bad: ["a whole number from 0"] for bad in ("-1", "1.5")}),
    "harbor-environment": (
        "namespace",
        "docker",
        "namespace",
        "docker",
        {bad: ["auto", "docker", "namespace"] for bad in ("podman", "Docker")},
    ),
    "harbor-image": ("one", "two:3", "one", "two:3", {}),
    "harbor-build": (
        "never",
        "always",
        "never",
        "always",
        {bad: ["auto", "always", "never"] for bad in ("no", "AUTO")},
    ),
    "harbor-adapt": ("hud", "lean", "hud", "lean", {bad: ["lean", "hud"] for bad in ("HUD", "none")}),
    "harbor-registry": (
        "localhost:5000/a",
        "ghcr.io/acme/tb2",
        "localhost:5000/a",
        "ghcr.io/acme/tb2",
        {
            bad: ["HOST/PREFIX"]
            for bad in ("ghcr.io", "ghcr.io/", "ghcr.io/A", "ghcr.io/a:1", "http://ghcr.io/a", "a/b@c")
        },
    ),
    "harbor-timeout-multiplier": (*FLOATS, NOT_POSITIVE),
    "harbor-agent-timeout": (*FLOATS, NOT_POSITIVE),
    "harbor-resource-multiplier": (*FLOATS, NOT_POSITIVE),
    "harbor-results": ("one", "two", None, None, {}),
    "harbor-html": ("one", "two", None, None, {}),
    "harbor-reward-key": ("one", "two", "one", "two", {}),
    "harbor-reward-precedence": ("json", "txt", "json", "txt", {"both": ["txt", "json"]}),
    "harbor-missing-reward": ("error", "zero", "error", "zero", {"none": ["zero", "error"]}),
    "harbor-infra-retries": ("3", "0", 3, 0, {bad: ["a whole number from 0"] for bad in ("-1", "1.5", "x")}),
}
ATTRIBUTES = {"harbor_dataset": "datasets", "harbor_task": "tasks", "harbor_exclude_task": "exclude_tasks"}
SWITCHES = [option for option in OPTIONS if option.kind == "switch"]
VALUED = [option for option in OPTIONS if option.kind != "switch"]
REFUSING = [(option, bad) for option in VALUED for bad in CASES[option.name][4]]


def by_name(option):
    return option.name if isinstance(option, Option) else repr(option)


def value_of(config: HarborConfig, option: Option):
    return getattr(config, ATTRIBUTES.get(option.key, option.key.removeprefix("harbor_")))


def parsed(project, *args: str) -> HarborConfig:
    # -c, so that values that look like paths do not change which ini file is used.
    config = project.pytester.parseconfig(*args, "-p", "no:cacheprovider")
    return options.read_options(config)


def expected(option: Option, project, number: int):
    if option.kind == "paths":
        return (project.path / CASES[option.name][number],)
    if option.kind == "path":
        return project.path / CASES[option.name][number]
    return CASES[option.name][number + 2]


def test_table_is_complete():
    assert set(CASES) == {option.name for option in VALUED}


@pytest.mark.parametrize("option", VALUED, ids=by_name)
def test_flag(project, option):
    assert value_of(parsed(project, f"{option.flag}={CASES[option.name][0]}"), option) == expected(option, project, 0)


@pytest.mark.parametrize("option", VALUED, ids=by_name)
def test_ini_key(project, option):
    project.ini(f"{option.key} = {CASES[option.name][0]}")
    assert value_of(parsed(project), option) == expected(option, project, 0)


@pytest.mark.parametrize("option", VALUED, ids=by_name)
def test_flag_overrides_the_ini_key(project, option):
    project.ini(f"{option.key} = {CASES[option.name][0]}")
    assert value_of(parsed(project, f"{option.flag}={CASES[option.name][1]}"), option) == expected(option, project, 1)


@pytest.mark.parametrize("option", [option for option in VALUED if option.kind in ("many", "paths")], ids=by_name)
def test_repeatable_flag_and_multiline_ini_key(project, option):
    first, second = CASES[option.name][:2]
    both = expected(option, project, 0) + expected(option, project, 1)
    assert value_of(parsed(project, f"{option.flag}={first}", f"{option.flag}={second}"), option) == both
    if option.kind == "many":
        project.ini(f"{option.key} =", f"    {first}", f"    {second}")
    else:
        project.ini(f"{option.key} = {first} {second}")
    assert value_of(parsed(project), option) == both


@pytest.mark.parametrize("option", SWITCHES, ids=by_name)
def test_switches(project, option):
    assert value_of(parsed(project), option) is False
    assert value_of(parsed(project, option.flag), option) is True
    project.ini(f"{option.key} = true")
    assert value_of(parsed(project), option) is True
    project.ini(f"{option.key} = false")
    assert value_of(parsed(project), option) is False
    assert value_of(parsed(project, option.flag), option) is True


@pytest.mark.parametrize("option", OPTIONS, ids=by_name)
def test_help_shows_the_default(project, option):
    value = value_of(parsed(project), option)
    if option.kind == "path" and option.default is not None:
        assert value == project.path / option.default
        return
    assert value == option.default
    shown = re.search(r" \(default: (\S+)\)$", option.help)
    if isinstance(value, int | float) and not isinstance(value, bool):
        assert shown, option.help
        assert float(shown[1]) == value
    else:
        assert (shown[1] if shown else "") == (str(value) if isinstance(value, str | Attempts) else "")


@pytest.mark.parametrize("option", [option for option in OPTIONS if option.kind in ("one", "path")], ids=by_name)
def test_flag_without_a_value(project, option):
    outcome = project.run("--collect-only", f"{option.flag}=")
    assert outcome.ret == 4
    outcome.has(f"ERROR: {option.flag} has no value; give one, or leave the option out")


@pytest.mark.parametrize("option, bad", REFUSING, ids=by_name)
def test_invalid_flag(project, option, bad):
    outcome = project.run("--collect-only", f"{option.flag}={bad}")
    assert outcome.ret == 4
    outcome.has(f"ERROR: {option.flag}: ", *CASES[option.name][4][bad])
    outcome.has(repr(bad))
    outcome.shows_no_bug()


@pytest.mark.parametrize(
    "option, bad",
    [(option, bad) for option, bad in REFUSING if bad.strip() and option.name != "harbor-agent-env"],
    ids=by_name,
)
def test_invalid_ini_key(project, option, bad):
    project.ini(f"{option.key} = {bad}")
    outcome = project.run("--collect-only")
    assert outcome.ret == 4
    outcome.has(f"ERROR: ini key {option.key}: {bad!r} ", *CASES[option.name][4][bad])
    outcome.shows_no_bug()


def test_invalid_value_without_a_dataset(project):
    project.file("test_unit.py", "def test_one(): pass\n")
    assert project.run("--harbor-build=sometimes").ret == 4


@pytest.mark.skipif(pytest.version_tuple < (9,), reason="pytest reads pytest.toml from version 9 on")
def test_text_where_toml_needs_a_list(project):
    project.file("pytest.toml", '[pytest]\nharbor_dataset = "tb2"\n')
    outcome = project.run("--collect-only")
    assert outcome.ret == 4
    outcome.has("harbor_dataset", "list")
    outcome.lacks("true or false")


def test_invalid_switch_in_the_ini_file(project):
    project.ini("harbor_record_only = perhaps")
    outcome = project.run("--collect-only")
    assert outcome.ret == 4
    outcome.has("harbor_record_only", "perhaps", "true or false")
    outcome.shows_no_bug()


def test_unknown_ini_key_with_strict_config(project):
    project.ini("harbor_datasett = x")
    assert project.run("--strict-config", "--collect-only").ret == 4


def test_env_name_takes_the_value_of_the_host(project, monkeypatch):
    monkeypatch.setenv("FROM_HOST", "a=b c")
    assert parsed(project, "--harbor-agent-env=FROM_HOST").agent_env == (("FROM_HOST", "a=b c"),)


def test_env_name_that_is_not_set_on_the_host(project, monkeypatch):
    monkeypatch.delenv("FROM_HOST", raising=False)
    outcome = project.run("--harbor-agent-env=FROM_HOST", "--collect-only")
    assert outcome.ret == 4
    outcome.has("--harbor-agent-env: FROM_HOST is not set on the host", "FROM_HOST=VALUE")


def test_relative_paths(project, monkeypatch):
    project.ini("harbor_dataset = tb2", "harbor_results = out")
    (project.path / "sub").mkdir()
    monkeypatch.chdir(project.path / "sub")
    config = parsed(project, "-c", "../pytest.ini")
    assert config.datasets == (project.path / "tb2",)
    assert config.results == project.path / "out"
    config = parsed(project, "-c", "../pytest.ini", "--harbor-dataset=tb2", "--harbor-results=out")
    assert config.datasets == (project.path / "sub" / "tb2",)
    assert config.results == project.path / "sub" / "out"


def test_default_paths_are_next_to_the_ini_file(project, monkeypatch):
    (project.path / "sub").mkdir()
    monkeypatch.chdir(project.path / "sub")
    config = parsed(project)
    assert (config.results, config.cassettes) == (project.path / "sub/harbor-results", project.path / "sub/cassettes")
    project.ini()
    config = parsed(project)
    assert (config.results, config.cassettes) == (project.path / "harbor-results", project.path / "cassettes")


def test_tilde(project, monkeypatch):
    monkeypatch.setenv("HOME", str(project.path))
    project.task("tb2/a")
    # Shells do not expand the tilde in --harbor-dataset=~/tb2.
    assert project.ids("--harbor-dataset=~/tb2") == ["tb2/a/task.toml::a"]


def test_help_lists_every_flag_and_ini_key(project):
    outcome = project.run("--help")
    assert outcome.ret == 0
    outcome.has("Harbor tasks (pytest-harbor)")
    for option in OPTIONS:
        value = f"[{option.metavar}]" if option.bare else option.metavar
        outcome.has(option.flag + (f"={value}" if value else ""))
        outcome.has(f"{option.key} (")
    outcome.lacks("NotSet")


@pytest.mark.parametrize("option", OPTIONS, ids=by_name)
def test_style_of_help_texts(option):
    assert option.name.startswith("harbor-")
    assert option.key == option.name.replace("-", "_")
    assert option.help[0].isupper()
    assert not option.help.endswith(".")
    assert "%" not in option.help, "argparse would read it"
    assert bool(option.metavar) == (option.kind != "switch")
    if isinstance(option.default, str) and option.default and option.kind == "one":
        assert option.default in option.help


def test_prefix_of_flags(project):
    config = project.pytester.parseconfig()
    ours = [action for group in config._parser._groups if group.name == "harbor" for action in group.options]
    flags = [flag for action in ours for flag in action.names()]
    assert len(flags) == len(OPTIONS)
    assert all(flag.startswith("--harbor-") for flag in flags)
    plain = argparse.ArgumentParser()
    for action in ours:
        plain.add_argument(*action.names())


def test_prefix_of_ini_keys(project):
    with_plugin = set(project.pytester.parseconfig()._parser._inidict)
    without = set(project.pytester.parseconfig("-p", "no:harbor")._parser._inidict)
    assert with_plugin - without == {option.key for option in OPTIONS}
    assert all(key.startswith("harbor_") for key in with_plugin - without)


def test_prefix_of_fixtures(project):
    outcome = project.run("--fixtures", "-q")
    section = re.search(
        r"-+ fixtures defined from pytest_harbor\.plugin\.\w+ -+\n(.*?)(\n-{5,}|\n={5,}|\Z)", outcome.out, re.S
    )
    assert section, outcome.out
    names = re.findall(r"^(\w+) .*-- ", section[1], re.M)
    assert set(names) >= {"harbor_task", "harbor_image", "harbor_environment", "harbor_agent", "harbor_trial"}
    assert all(name.startswith("harbor_") for name in names)
    assert "no docstring available" not in section[1]


def test_mark_is_registered_with_its_signature(project):
    outcome = project.run("--markers")
    (line,) = [line for line in outcome.out.splitlines() if "harbor" in line]
    assert line.startswith("@pytest.mark.harbor(dataset=None, task='*'): ")


def test_hooks_have_the_prefix_and_an_example():
    from pytest_harbor.plugin import hookspecs

    hooks = [name for name, value in vars(hookspecs).items() if callable(value) and name.startswith("pytest")]
    assert len(hooks) == 10
    for name in hooks:
        assert name.startswith("pytest_harbor_")
        assert f"def {name}(" in getattr(hookspecs, name).__doc__


def test_unknown_hook(project):
    project.file("conftest.py", "def pytest_harbor_tsak(task): pass\n")
    outcome = project.run("--collect-only")
    assert outcome.ret != 0
    outcome.has("unknown hook 'pytest_harbor_tsak'")


def test_config_is_frozen(project):
    config = parsed(project)
    with pytest.raises(AttributeError):
        config.model = "x"
    assert len(OPTIONS) == len(HarborConfig.__dataclass_fields__)


def test_options_do_not_leak_between_runs(project):
    project.task("tb2/a")
    assert project.ids("--harbor-dataset=tb2", "--harbor-attempts=2")
    assert project.ids("--harbor-dataset=tb2") == ["tb2/a/task.toml::a"]


def test_environment_variables_are_not_changed(project, monkeypatch):
    import os

    project.task("tb2/a")
    before = dict(os.environ)
    project.ids("--harbor-dataset=tb2", "--harbor-model=m", "--harbor-agent-env=SECRET=1")
    changed = {k for k in {*before, *os.environ} if before.get(k) != os.environ.get(k)} - {"PYTEST_CURRENT_TEST"}
    assert not changed


def test_addopts(project):
    project.task("tb2/a")
    project.ini("addopts = --harbor-dataset=tb2 --harbor-attempts=2")
    assert len(project.ids()) == 2


def test_pyproject_toml(project):
    project.task("tb2/a")
    project.task("tb2/b")
    Path("pyproject.toml").write_text(
        '[tool.pytest.ini_options]\nharbor_dataset = ["tb2"]\nharbor_task = ["a"]\nharbor_attempts = "2"\nharbor_record_only = true\n'  # noqa: E501
    )
    assert project.ids() == ["tb2/a/task.toml::a", "tb2/a/task.toml::a[2]"]


def test_native_toml_values(project):
    """pytest 9 reads [tool.pytest] with native TOML types."""
    if int(pytest.__version__.partition(".")[0]) < 9:
        pytest.skip("new in pytest 9")
    project.task("tb2/a")
    Path("pyproject.toml").write_text('[tool.pytest]\nharbor_dataset = ["tb2"]\nharbor_attempts = "2"\n')
    assert project.ids() == ["tb2/a/task.toml::a", "tb2/a/task.toml::a[2]"]
