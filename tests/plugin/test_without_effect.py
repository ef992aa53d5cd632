"""Flags that would change nothing are usage errors; as ini keys they are defaults for other runs."""

from __future__ import annotations

import pytest

RUN = ("--harbor-dataset=tb2", "--harbor-agent=nop")

WITHOUT_PROXY = [
    "--harbor-openai-base-url=http://127.0.0.1:9/v1",
    "--harbor-openai-key=MY_KEY",
    "--harbor-anthropic-base-url=http://127.0.0.1:9",
    "--harbor-anthropic-key=MY_KEY",
    "--harbor-prices=prices.toml",
    "--harbor-proxy-log=meta",
]
CASES = [
    *((flag, "without the model proxy; add --harbor-proxy=live") for flag in WITHOUT_PROXY),
    ("--harbor-cassettes=tapes", "add --harbor-proxy=record (or replay, auto)"),
    ("--harbor-agent-where=host", "on an agent that is not a command; add --harbor-agent-command=CMD"),
    ("--harbor-confirm=2", "without a baseline, which says what newly fails; add --harbor-baseline=FILE"),
    ("--harbor-min-coverage=0.5", "without a baseline, whose tasks it is about; add --harbor-baseline=FILE"),
    ("--harbor-inconclusive=pass", "without a verdict; add --harbor-baseline=FILE or --harbor-gate=RULE"),
    ("--harbor-max-infra-errors=1", "without a verdict; add --harbor-baseline=FILE or --harbor-gate=RULE"),
    ("--harbor-force-baseline", "unless a baseline is saved; add --harbor-save-baseline=FILE"),
]


@pytest.mark.parametrize("flag, cure", CASES)
def test_flag_without_effect(project, flag, cure):
    project.task("tb2/a")
    outcome = project.run(*RUN, flag)
    assert outcome.ret == 4
    name, _, value = flag.partition("=")
    outcome.has(f"ERROR: {name} has no effect ", cure, ", or remove it\n")
    outcome.lacks("test session starts")
    outcome.shows_no_bug()
    # As a default, it waits for a run that it concerns.
    project.ini(f"{name.removeprefix('--').replace('-', '_')} = {value or 'true'}")
    project.run(*RUN, "--collect-only").lacks("no effect")
    project.ini(f"addopts = {flag}")
    project.run(*RUN, "--collect-only").lacks("no effect")


def test_every_flag_without_effect_is_named(project):
    project.task("tb2/a")
    outcome = project.run(*RUN, "--harbor-openai-base-url=http://127.0.0.1:9/v1", "--harbor-confirm=1")
    outcome.has("ERROR: --harbor-openai-base-url has no effect", "ERROR: --harbor-confirm has no effect")
    outcome.has("or set OPENAI_BASE_URL instead")


@pytest.mark.parametrize(
    "flags",
    [
        ["--harbor-openai-base-url=http://127.0.0.1:9/v1", "--harbor-proxy=live"],
        ["--harbor-cassettes=tapes", "--harbor-proxy=auto"],
        ["--harbor-max-infra-errors=1", "--harbor-save-baseline=new.json"],
        ["--harbor-inconclusive=pass", "--harbor-gate=each"],
    ],
)
def test_flag_with_effect(project, flags):
    project.task("tb2/a")
    assert project.run(*RUN, *flags, "--collect-only").ret == 0


def test_rule_in_a_configuration_file_makes_a_verdict(project):
    project.task("tb2/a")
    project.file("pyproject.toml", '[tool.pytest.ini_options]\n[tool.pytest-harbor.gate]\nrule = "pass-rate=0.5"\n')
    assert project.run(*RUN, "--harbor-inconclusive=pass", "--collect-only").ret == 0
    assert project.run(*RUN, "--harbor-inconclusive=pass", "--harbor-confirm=1", "--collect-only").ret == 4
