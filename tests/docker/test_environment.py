"""The environment of a trial: ENTRYPOINTs and services, healthchecks, resource limits, and a lost engine."""

from __future__ import annotations

from typing import Any

from harbor_runs import IMAGE, ONE, PROCESSES, Harbor

SERVICE_RUNS = f"{PROCESSES} | grep -q '[S]ERVICE' && {ONE}"


def with_entrypoint(script: str, *lines: str, user: str = "") -> dict[str, Any]:
    """Return the arguments of a task whose image has a script as its ENTRYPOINT."""
    dockerfile = [f"FROM {IMAGE}", "COPY --chmod=755 entry.sh /entry.sh", 'ENTRYPOINT ["/entry.sh"]', *lines]
    return {
        "image": None,
        "files": {"environment/Dockerfile": "\n".join(dockerfile) + "\n", "environment/entry.sh": script},
    }


def test_entrypoints(harbor: Harbor) -> None:
    serve = "#!/bin/sh\nexport FROM_ENTRYPOINT=1\nsh -c 'while :; do sleep 0.1; done # SERVICE' &\n"
    harbor.task("service", test=SERVICE_RUNS, **with_entrypoint(serve + 'exec "$@"\n', 'CMD ["/no/such"]'))
    harbor.task("no-exec", test=SERVICE_RUNS, **with_entrypoint(serve + '"$@"\n'))
    # Ends at once instead of running its arguments.
    harbor.task("ends", **with_entrypoint("#!/bin/sh\necho entrypoint output\nexit 3\n"))
    harbor.task("absent", **with_entrypoint("#!/no/such/interpreter\n"))
    shell = {"environment/Dockerfile": f'FROM {IMAGE}\nENTRYPOINT ["/bin/bash"]\n'}
    harbor.task("shell", image=None, files=shell)
    # Environment variables of the task reach the image's service, too.
    harbor.task(
        "variables",
        test=f"grep -q yes /from-entrypoint && {ONE}",
        environment={"env": {"SET": "yes"}},
        **with_entrypoint('#!/bin/sh\necho "$SET" > /from-entrypoint\nexec "$@"\n'),
    )
    run = harbor.run("-n2", "-v", "--harbor-infra-retries=0")
    assert run.outcomes() == {
        "service": "passed",
        "no-exec": "passed",
        "ends": "error",
        "absent": "error",
        "shell": "passed",
        "variables": "passed",
    }, run.text
    reason = run["ends"]["reason"]
    assert f"ds/ends [start] {reason}" in run.text
    for expected in ("exit code 3", "entrypoint output", "/entry.sh", 'must run its arguments (exec "$@")'):
        assert expected in reason
    assert "/entry.sh" in run["absent"]["reason"]


def test_healthchecks(harbor: Harbor) -> None:
    late = '#!/bin/sh\n(sleep 0.7; touch /ready) &\nexec "$@"\n'
    quick = {"interval_sec": 0.3, "timeout_sec": 0.5, "retries": 2}
    harbor.task(
        "healthy",
        "[ -e /ready ] && touch /answer",
        f"[ -e /answer ] && {ONE}",
        environment={"healthcheck": {"command": "[ -e /ready ]", "interval_sec": 60, "retries": 2}},
        **with_entrypoint(late),
    )
    harbor.task(
        "start-period",
        "[ -e /ready ] && touch /answer",
        f"[ -e /answer ] && {ONE}",
        environment={"healthcheck": {**quick, "command": "[ -e /ready ]", "start_period_sec": 30, "retries": 1}},
        **with_entrypoint(late),
    )
    # Slow machines need more time to run a command than to find that one hangs.
    answers = {**quick, "timeout_sec": 30, "command": "echo no answer yet; exit 7"}
    harbor.task("never", environment={"healthcheck": answers})
    harbor.task("hangs", environment={"healthcheck": {**quick, "command": "sleep 100"}})
    run = harbor.run("-n2", "-v", "--harbor-infra-retries=0")
    assert run.outcomes() == {"healthy": "passed", "start-period": "passed", "never": "error", "hangs": "error"}
    assert "ds/never [setup] the healthcheck failed 2 times" in run.text
    assert "exited with code 7: no answer yet" in run["never"]["reason"]
    assert "timed out" in run["hangs"]["reason"]
    # A service that starts quickly does not cost a whole interval.
    assert run["healthy"]["phases"]["setup"] < 30
    assert not (run.trial("never") / "agent").exists()


def test_limits(harbor: Harbor) -> None:
    show = """
cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null > /logs/agent/memory.txt
cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu.max 2>/dev/null > /logs/agent/cpu.txt
"""
    harbor.task("small", show, environment={"cpus": 0.5, "memory_mb": 64})
    harbor.task("old-spelling", show, environment={"memory": "1G"})
    harbor.task("many-cpus", environment={"cpus": 5000})
    # Uses too much memory and is killed; its work so far is graded.
    harbor.task(
        "greedy",
        "touch /answer; head -c 300M /dev/zero | tail -c 300M | wc -c; echo survived > /survived",
        f"[ -e /answer ] && {ONE}",
        environment={"memory_mb": 32},
    )
    run = harbor.run("-n2", "--harbor-resource-multiplier=2")
    assert run.outcomes() == dict.fromkeys(("small", "old-spelling", "many-cpus", "greedy"), "passed")
    assert run.file("small", "agent/memory.txt").split() == [str(128 * 2**20)]
    assert run.file("small", "agent/cpu.txt").split()[0] == "100000"
    assert run.file("old-spelling", "agent/memory.txt").split() == [str(2 * 2**30)]
    assert any("requests 10000 CPUs, but the engine has " in note for note in run["many-cpus"]["warnings"])
    assert str(300 * 2**20) not in run.file("greedy", "agent/agent.log")


def test_fallback_image(harbor: Harbor) -> None:
    harbor.task("bare", "pwd > /logs/agent/pwd.txt", image=None)
    run = harbor.run("-v", f"--harbor-image={IMAGE}")
    assert run["bare"]["image"]["ref"] == IMAGE
    assert run.file("bare", "agent/pwd.txt") == "/app\n"
    assert any(f"neither a Dockerfile nor a docker_image; using {IMAGE}" in note for note in run["bare"]["warnings"])


def test_container_removed_by_another_program(harbor: Harbor) -> None:
    harbor.pytester.makeconftest("""
        import subprocess

        def remove(task, environment):
            if not (environment.directory.parent.name.endswith(".retry1") and task.name == "once"):
                subprocess.run(["docker", "rm", "-f", environment.name], check=True)

        def pytest_harbor_agent(task):
            return remove if task.name != "untouched" else "nop"
        """)
    for name in ("once", "always", "untouched"):
        harbor.task(name)
    run = harbor.run("-v", agent=())
    assert run.outcomes() == {"once": "passed", "always": "error", "untouched": "passed"}, run.text
    assert len(run["once"]["retries"]) == 1
    for message in (run["once"]["retries"][0]["message"], run["always"]["reason"]):
        assert "check whether something else removes containers" in message
    # The results of both attempts are kept.
    assert (run.trial("once").with_name(run.trial("once").name.removesuffix(".retry1")) / "exception.txt").is_file()
