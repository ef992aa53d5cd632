"""Extreme deadlines and limits: the same with each provider."""

import asyncio

import pytest

from pytest_harbor import Task, TrialSettings, run_trial
from pytest_harbor.environment import Resources, StartRequest
from pytest_harbor.image import Image, ImageDetails
from pytest_harbor.trial.start import start_request

GRADE = "#!/bin/sh\necho 1 >/logs/verifier/reward.txt\n"
HUGE = "[agent]\ntimeout_sec = 1e12\n[verifier]\ntimeout_sec = inf\n[environment]\nbuild_timeout_sec = 1e300\n"


@pytest.fixture
def run(provider, make_task, tmp_path):
    def run(agent, toml=HUGE, **settings):
        files = {"environment/Dockerfile": "FROM python:3.12-slim\nRUN true\n"}
        task = make_task(toml=toml, test=GRADE, solution="true\n", files=files)
        result = run_trial(task, agent, provider=provider, settings=TrialSettings(**settings), results=tmp_path / "r")
        return result.outcome, result.reason

    return run


def callable_agent(task, environment):
    assert environment.exec("echo hello", timeout=1e15).output == "hello\n"


async def async_agent(task, environment):
    await asyncio.sleep(0)


@pytest.mark.parametrize("agent", ["oracle", callable_agent, async_agent])
def test_deadlines_that_no_clock_can_hold(run, agent):
    assert run(agent, timeout_multiplier=1e200) == ("passed", "")


@pytest.mark.parametrize(
    "limits",
    [Resources(cpus=0.01), Resources(cpus=1e300), Resources(memory_mb=2**42), Resources(memory_mb=2**42, cpus=1e9)],
)
def test_limits_that_are_hardly_possible(provider, build, limits):
    image = build("FROM BASE\n")
    environment = provider.start(image, StartRequest(f"numbers-{id(limits)}", "t/t", "r", resources=limits))
    try:
        assert environment.exec("echo works").output == "works\n"
        assert not any("may not create" in note for note in environment.notes if limits.memory_mb is None)
    finally:
        environment.stop()


@pytest.mark.parametrize("factor, memory, cpus", [(1e-9, 6, 0.01), (0.5, 512, 1), (1e300, 2**42, 2e300)])
def test_scaled_limits_stay_possible(make_task, factor, memory, cpus):
    task = Task.load(make_task(toml="[environment]\nmemory_mb = 1024\ncpus = 2\n"))
    image = Image("x", "present", ImageDetails(id="x"))
    settings = TrialSettings(resource_multiplier=factor)
    request = start_request(task, image, "run", {}, settings)
    assert request.resources == Resources(cpus=cpus, memory_mb=memory)
