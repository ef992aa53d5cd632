"""Host agents that work over MCP, on both providers."""

import contextlib
import json
import logging
import re
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import threading
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from pytest_harbor.agent import HostCommandAgent
from pytest_harbor.errors import EngineUnavailable
from pytest_harbor.hud.mcp import McpService
from pytest_harbor.image import ImageStore
from pytest_harbor.task import Task
from pytest_harbor.trial import AgentVariables, Trial, TrialHooks, TrialPlace, TrialSettings

pytestmark = pytest.mark.slow

pytest.importorskip("mcp")

IMAGE = "python:3.12-slim"
HELLO = (
    '[ "$(cat /app/hello.txt)" = hello ] && echo 1 >/logs/verifier/reward.txt || echo 0 >/logs/verifier/reward.txt\n'
)

# The rest of an agent is a coroutine that takes a session of the official client.
CLIENT = """
import asyncio, json, os, sys
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client

URL, SCENARIO = os.environ["HARBOR_MCP_URL"], os.environ["HARBOR_MCP_SCENARIO"]

async def tool(session, name, **arguments):
    result = await session.call_tool(name, arguments)
    values = result.model_dump(by_alias=True)
    return ("ERROR " if values["isError"] else "") + "".join(c.get("text", c["type"]) for c in values["content"])

async def prompt(session, **arguments):
    return (await session.get_prompt(SCENARIO, arguments)).messages[0].content.text

async def grade(session):
    try:
        result = await session.read_resource(SCENARIO)
    except Exception as error:
        return f"ERROR {error}"
    return json.loads(result.contents[0].text)

async def main():
    async with streamable_http_client(URL) as (read, write, *_), ClientSession(read, write) as session:
        await session.initialize()
        await work(session)
"""


def agent(tmp_path, work, name="agent.py"):
    """Return a host agent whose work is the body of a coroutine."""
    body = "\n".join(f"    {line}" for line in work.strip().splitlines())
    script = tmp_path / name
    script.write_text(f"{CLIENT}\nasync def work(session):\n{body}\n\nasyncio.run(main())\n")
    return HostCommandAgent(shlex.join([sys.executable, str(script)]))


class Trials:
    """Trials of one task, and their files."""

    def __init__(self, provider, directory, make_task):
        self.provider = provider
        self.directory = directory
        self.make_task = make_task
        self.trials = []
        self.services = [McpService()]

    def __call__(self, agent, test=HELLO, toml='workdir = "/app"\n', hooks=None, **settings):
        number = len(self.trials)
        path = self.make_task(
            f"My_Data set/task{number}",
            f'[environment]\ndocker_image = "{IMAGE}"\n{toml}',
            test=test,
            instruction="Hi ä!\n",
        )
        trial = Trial(
            Task.load(path),
            self.provider,
            ImageStore(self.provider, self.directory, policy="auto"),
            # Processes are found by the trial's id, which must differ between workers of this test run.
            TrialPlace("run", self.directory / f"{number}__{secrets.token_hex(4)}"),
            TrialSettings(agent_workdir="", **settings),
            hooks,
            services=self.services,
        )
        self.trials.append(trial)
        try:
            return trial.run(agent)
        finally:
            trial.stop()

    @property
    def log(self):
        return (self.trials[-1].directory / "agent/agent.log").read_text(encoding="utf-8")


@pytest.fixture
def run(provider, tmp_path, make_task):
    threads = set(threading.enumerate())
    handlers = list(logging.getLogger().handlers)
    yield Trials(provider, tmp_path / "trials", make_task)
    left = {t for t in threading.enumerate() if t not in threads and t.name.startswith(("harbor-mcp", "harbor-tool"))}
    assert left == set()
    assert logging.getLogger().handlers == handlers


def test_agent_solves_a_task_and_requests_grading(run, tmp_path):
    result = run(
        agent(
            tmp_path,
            """
print(sorted(t.name for t in (await session.list_tools()).tools))
print(await prompt(session), await prompt(session, task_id="task0"), SCENARIO)
try:
    await prompt(session, task_id="other")
except Exception as error:
    print("refused:", error)
print(await tool(session, "bash", command="pwd; id -un; echo $HARBOR_TASK_NAME ${HARBOR_MCP_URL-none}; echo err >&2"))
print(await tool(session, "edit", command="create", path="hello.txt", file_text="hullo\\n"))
print(await tool(session, "edit", command="str_replace", path="/app/hello.txt", old_str="hullo", new_str="hello"))
print(await tool(session, "read", filePath="hello.txt"), await tool(session, "grep", pattern="hel+o"))
print(await tool(session, "glob", pattern="*.txt"), await tool(session, "list"))
print(await tool(session, "read", filePath="gone"))
print(await tool(session, "_hud_submit", scenario=SCENARIO, answer="It is done."))
print("FIRST", await grade(session))
print("SECOND", await grade(session))
print(await tool(session, "bash", command="echo 0 >/logs/verifier/reward.txt"))
open("url", "w").write(URL)
""",
        )
    )
    log = run.log
    assert (result.outcome, result.reward, result.agent_exit) == ("passed", 1.0, 0), log
    assert "['_hud_submit', 'bash', 'edit', 'glob', 'grep', 'list', 'read']" in log
    assert "Hi ä!\n Hi ä!\n hud-harbor-my-data-set:run-task" in log
    assert re.search("refused: .*there is no task 'other' here", log)
    assert "/app\nroot\ntask0 none\nerr\n" in log
    assert "     1\thello hello.txt:\n     1\thello\n" in log
    assert "ERROR Error executing tool read: gone does not exist" in log
    assert "It is done." in log
    evaluation = "{'reward': 1.0, 'done': True, 'content': 'passed', 'info': {'outcome': 'passed', 'metrics': {}}}"
    assert f"FIRST {evaluation}\n" in log
    assert f"SECOND {evaluation}\n" in log
    assert log.count("harbor: mcp graded at the agent's request: passed, reward 1.0") == 1
    assert "ERROR Error executing tool bash: the work has been graded; no more work is possible" in log
    # The log lists the calls even if the agent prints nothing.
    assert 'harbor: mcp [1] bash {"command": "pwd; id' in log
    # Grading does not count as agent time.
    assert result.phases["verify"] > 0
    assert result.phases["agent"] > 0
    url = urlsplit((run.trials[-1].directory / "host/url").read_text())
    assert len(url.path) > 20
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((url.hostname, url.port), timeout=5)


def test_agent_without_grading_request_is_graded(run, tmp_path):
    result = run(
        agent(
            tmp_path,
            """
await tool(session, "bash", command="echo hello >hello.txt; sleep 1000 >/dev/null 2>&1 &")
asyncio.create_task(tool(session, "bash", command="touch /tmp/running; sleep 1001"))
while "running" not in await tool(session, "bash", command="ls /tmp"):
    pass
os._exit(3)
""",
        ),
        test='for f in /proc/[0-9]*/cmdline; do tr "\\0" " " <$f; echo; done 2>/dev/null; ls -A /tmp\n' + HELLO,
    )
    assert (result.outcome, result.reward, result.agent_exit) == ("passed", 1.0, 3), run.log
    tested = (run.trials[-1].directory / "verifier/test-stdout.txt").read_text()
    # Background processes started on purpose stay; a running call is killed, and no state is left.
    assert "sleep 1000" in tested
    assert "sleep 1001" not in tested
    assert ".harbor-bash" not in tested


def test_unsolved_task_is_graded_0(run, tmp_path):
    result = run(agent(tmp_path, 'print("GOT", await grade(session))'), threshold=0.5)
    assert (result.outcome, result.reward) == ("failed", 0.0)
    assert "GOT {'reward': 0.0" in run.log


def test_agent_sees_hook_and_missing_reward(run, tmp_path):
    class Half(TrialHooks):
        def reward(self, task, environment, verification):
            return 0.5

    assert run(agent(tmp_path, 'print("GOT", await grade(session))'), hooks=Half()).reward == 0.5
    assert "GOT {'reward': 0.5" in run.log
    result = run(agent(tmp_path, 'print("GOT", await grade(session))'), test="true\n")
    assert (result.outcome, result.reward) == ("unverified", 0.0)
    assert "GOT {'reward': 0.0" in run.log
    assert "reward.txt" in run.log
    result = run(agent(tmp_path, 'print("GOT", await grade(session))'), test="true\n", missing_reward="error")
    assert (result.outcome, result.reward) == ("unverified", None)
    assert "GOT ERROR" in run.log
    assert "there is no reward" in run.log


class GradesDuringAgent:
    """A service that requests grading while the agent runs."""

    def admit(self, task, variables):
        pass

    def admit_setup(self, text, files):
        pass

    def close(self):
        pass

    @contextlib.contextmanager
    def open(self, context):
        asking = threading.Thread(target=context.grade)
        asking.start()
        yield AgentVariables(host={"ADDED": "by a service"})
        asking.join()


def test_grading_is_awaited_and_not_agent_time(run):
    run.services = [GradesDuringAgent()]
    test = "sleep 3; echo 1 >/logs/verifier/reward.txt\n"
    result = run(HostCommandAgent('echo "$ADDED"; sleep 4'), test=test, agent_timeout=3.5)
    assert (result.outcome, result.agent_timed_out, result.agent_exit) == ("passed", False, 0)
    assert "by a service" in run.log
    assert result.phases["verify"] > 3
    assert 0 < result.phases["agent"] < 3
    # Grading continues after the agent exits.
    assert run(HostCommandAgent("true"), test=test).outcome == "passed"


# A client that starts fast, for an agent with a short timeout.
QUICK = """
import json, os, urllib.request
headers = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
def post(method, **message):
    body = json.dumps({"jsonrpc": "2.0", "method": method, **message}).encode()
    return urllib.request.urlopen(urllib.request.Request(os.environ["HARBOR_MCP_URL"], body, headers))
info = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "quick", "version": "1"}}
headers["mcp-session-id"] = post("initialize", id=1, params=info).headers["mcp-session-id"]
post("notifications/initialized")
command = "echo hello >hello.txt; sleep 1000"
post("tools/call", id=2, params={"name": "bash", "arguments": {"command": command}}).read()
"""


def test_timeout_kills_the_running_call(run, tmp_path):
    (tmp_path / "quick.py").write_text(QUICK)
    result = run(
        HostCommandAgent(shlex.join([sys.executable, "-I", "-S", str(tmp_path / "quick.py")])),
        test='for f in /proc/[0-9]*/cmdline; do tr "\\0" " " <$f; echo; done 2>/dev/null\n' + HELLO,
        agent_timeout=5,
    )
    assert (result.outcome, result.agent_timed_out) == ("passed", True), run.log
    assert "sleep 1000" not in (run.trials[-1].directory / "verifier/test-stdout.txt").read_text()


def test_infrastructure_error_in_grading_is_retried(run, tmp_path, monkeypatch):
    from pytest_harbor.trial import trial as module

    verify, calls = module.verify, []

    def failing(*args, **options):
        calls.append(None)
        if len(calls) == 1:
            raise EngineUnavailable("the engine went away")
        return verify(*args, **options)

    monkeypatch.setattr(module, "verify", failing)
    result = run(
        agent(
            tmp_path, 'await tool(session, "bash", command="echo hello >hello.txt")\nprint("GOT", await grade(session))'
        )
    )
    assert (result.outcome, result.reward) == ("passed", 1.0)
    assert [(retry.phase, retry.message) for retry in result.retries] == [("verify", "the engine went away")]
    first = Path(result.retries[0].directory, "agent/agent.log").read_text()
    assert "grading failed: the engine went away" in first
    assert "GOT {'reward': 1.0" in run.log


@pytest.mark.skipif(version("mcp").startswith("1."), reason="the client of mcp 1.x does not send cancellations")
def test_cancelled_call_is_killed(run, tmp_path):
    run(
        agent(
            tmp_path,
            """
call = asyncio.create_task(tool(session, "bash", command="touch /tmp/running; exec sleep 1002"))
while "running" not in await tool(session, "bash", command="ls /tmp"):
    pass
call.cancel()
try:
    await asyncio.wait_for(call, 30)
except asyncio.CancelledError:
    pass
look = "cat /proc/[0-9]*/cmdline | tr '\\\\0' ' '"
for _ in range(500):
    if "sleep 1002" not in await tool(session, "bash", command=look):
        print("IT IS DEAD")
        break
""",
        )
    )
    assert "IT IS DEAD" in run.log


def test_concurrent_clients_and_large_output(run, tmp_path):
    result = run(
        agent(
            tmp_path,
            """
async def other(number):
    async with streamable_http_client(URL) as (read, write, *_), ClientSession(read, write) as another:
        await another.initialize()
        # Each waits for all others, so all must run at the same time.
        meet = f"touch /tmp/m{number}; while [ $(ls /tmp/m? | wc -l) -lt 8 ]; do sleep 0.05; done; echo {number}"
        return await tool(another, "bash", command=meet)
print("ALL", sorted(await asyncio.gather(*map(other, range(8)))))
text = await tool(session, "bash", command="seq 120000; printf '\\\\303'; exit 7")
print("LARGE", len(text), text[-17:])
big = "x" * 3_000_000
await tool(session, "edit", command="create", path="-big 'file'\\n", file_text=big)
print("BIG", await tool(session, "bash", command="wc -c <./-big*"))
""",
        )
    )
    assert result.agent_exit == 0, run.log
    assert f"ALL {[f'{n}{chr(10)}' for n in range(8)]}" in run.log
    assert "LARGE 728910 0\n\ufffd\n[exit code 7]" in run.log
    assert "BIG 3000000\n" in run.log


def test_tools_use_the_task_user_and_workdir(run, tmp_path, many_users):
    result = run(
        agent(
            tmp_path,
            """
print(await tool(session, "bash", command="id -u; pwd; touch /root/x"))
await tool(session, "edit", command="create", path="made", file_text="x" * 200_000)
print(await tool(session, "bash", command="ls -n made; ls -dA /.harbor* 2>&1"))
print(await tool(session, "edit", command="create", path="/root/no", file_text=""))
""",
        ),
        toml='workdir = "/srv"\n[agent]\nuser = "nobody"\n',
        hooks=OpenSrv(),
    )
    assert result.agent_exit == 0
    assert "65534\n/srv\n" in run.log
    assert "Permission denied" in run.log
    assert " 65534 65534 200000 " in run.log
    assert "No such file" in run.log
    assert "/root/no could not be written" in run.log


class OpenSrv(TrialHooks):
    def environment_started(self, task, environment):
        environment.exec("mkdir -p /srv && chmod 777 /srv", user="0", cwd="/")


def test_server_requires_the_secret_url(run, tmp_path):
    run(
        agent(
            tmp_path,
            """
import urllib.error, urllib.request
def status(url, **headers):
    request = urllib.request.Request(url, b"{}", {"content-type": "application/json", **headers})
    try:
        return urllib.request.urlopen(request).status
    except urllib.error.HTTPError as error:
        return error.code
root = URL.split("/", 3)
print("PATH", status("/".join(root[:3]) + "/mcp"))
print("HOST", status(URL, host="evil.example"))
print("ORIGIN", status(URL, origin="http://evil.example"))
""",
        )
    )
    assert "PATH 404" in run.log
    assert "HOST 421" in run.log
    assert "ORIGIN 403" in run.log


def test_agent_in_environment_gets_no_server(run):
    from pytest_harbor.agent import CommandAgent

    run(CommandAgent("echo url ${HARBOR_MCP_URL-none}"))
    assert "url none" in run.log


EXAMPLES = Path(__file__).parents[2] / "examples"


def command(tmp_path, *words):
    """Return the command of a pytest run in HUD mode on the namespace provider."""
    options = [
        "-p",
        "no:cacheprovider",
        "--harbor-environment=namespace",
        "--harbor-adapt=hud",
        "--harbor-results=results",
    ]
    return [sys.executable, "-m", "pytest", *options, "--harbor-agent-where=host", *words]


def results(tmp_path):
    (file,) = tmp_path.glob("results/*/results.jsonl")
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


@pytest.mark.slow
@pytest.mark.usefixtures("namespace")
def test_example_agent_in_workers(tmp_path):
    line = shlex.join([sys.executable, str(EXAMPLES / "agents/mcp_agent.py")])
    task = f"{EXAMPLES}/tasks/hello-world"
    words = command(
        tmp_path, f"--harbor-dataset={task}", f"--harbor-agent-command={line}", "--harbor-attempts=2", "-n2"
    )
    process = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert [result["reward"] for result in results(tmp_path)] == [1.0, 1.0], process.stdout
    logs = [Path(result["directory"], "agent/agent.log").read_text() for result in results(tmp_path)]
    assert all("My reward is 1.0" in log for log in logs)


@pytest.mark.slow
@pytest.mark.usefixtures("namespace")
def test_interrupt_leaves_no_process(tmp_path, make_task):
    path = make_task("ds/long", f'[environment]\ndocker_image = "{IMAGE}"\n')
    waits = agent(tmp_path, """print("BEGUN", flush=True), await tool(session, "bash", command="sleep 12321")""")
    words = command(tmp_path, f"--harbor-dataset={path}", f"--harbor-agent-command={waits.line}", "-s")
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if "sleep 12321" in line:
                process.send_signal(signal.SIGINT)
        assert process.wait() == 2
    (result,) = results(tmp_path)
    assert (result["outcome"], result["reason"]) == ("error", "interrupted")
    running = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not [line for line in running if b"sleep\x0012321" in line]


# The steps of HUD's own runs: a task row, its environment connected to a server, its scenario from setup to evaluation.
HUD = """
import asyncio, os
from hud import Environment
from hud.eval.task import Task

async def main():
    scenario = os.environ["HARBOR_MCP_SCENARIO"]
    name = scenario.partition(":")[0]
    task = Task(env={"name": name}, scenario=scenario, args={"task_id": os.environ["HARBOR_TASK_NAME"]})
    env = Environment(name)
    env.connect_mcp_config({"harbor": {"url": os.environ["HARBOR_MCP_URL"]}})
    async with env:
        print("PROMPT", await env.run_scenario_setup(task.scenario, task.args))
        print("TOOLS", sorted(tool.name for tool in env.as_tools()))
        await env.call_tool("edit", command="create", path="hello.txt", file_text="hello\\n")
        output = await env.call_tool("bash", command="cat hello.txt; exit 3")
        print("OUTPUT", output.content[0].text)
        await env.submit(task.scenario, "It is done.")
        result = await env.run_scenario_evaluate(task.scenario)
        print("RESULT", result.reward, result.done, result.isError, result.content)

asyncio.run(main())
"""


def test_hud_python_runs_the_scenario(run, tmp_path, hud_python):
    script = tmp_path / "hud_agent.py"
    script.write_text(HUD)
    result = run(HostCommandAgent(shlex.join([str(hud_python), "-W", "ignore", str(script)])))
    log = run.log
    assert (result.outcome, result.reward, result.agent_exit) == ("passed", 1.0, 0), log
    assert "PROMPT Hi ä!" in log
    assert "'bash', 'edit', 'glob', 'grep', 'list', 'read'" in log
    assert "OUTPUT hello\n[exit code 3]" in log
    assert '"answer": "It is done."' in log
    assert "RESULT 1.0 True False passed" in log
