"""A small terminal agent for any OpenAI-compatible server, meant to be read, copied and changed.

    pytest --harbor-dataset=DATASET --harbor-agent=openai --harbor-model=MODEL

A copy works without changes: `--harbor-agent=my_agent.py:solve`. The agent runs on the host; the image needs only a
POSIX shell with `cat`, `wc` and `mkdir`.

OPENAI_BASE_URL, OPENAI_API_KEY and OPENAI_MODEL name the server, the key and the model, and HARBOR_AGENT_MAX_TURNS
limits the number of turns; each may be set for the agent or on the host. The conversation is saved in
`transcript.jsonl`, one message per line.
"""

from __future__ import annotations

import json
import os
import posixpath
import re
from typing import TYPE_CHECKING, Any

import openai

from pytest_harbor.errors import InfrastructureError

if TYPE_CHECKING:
    from pytest_harbor.agent.callable import AgentEnvironment
    from pytest_harbor.task import Task

MAX_TURNS = 100
COMMAND_SECONDS = 120
FILE_SECONDS = 60
OUTPUT_CHARACTERS = 20_000
FILE_BYTES = 1_000_000
# Linux limits one argument of a program to 128 KiB, and a character takes up to 4 bytes.
CHUNK_CHARACTERS = 30_000

SYSTEM = """\
You are working on a task in a Linux environment, using the tools provided. Nobody will answer questions: make your \
own decisions, and check the results of what you do. Programs that wait for input, such as editors and pagers, hang.

Your working directory is {workdir}. Each bash call starts a new shell there: directory changes and variables from \
earlier calls are lost, but files and background processes remain. Long output is truncated in the middle.

Your work will be graded by tests that you cannot see, so do exactly what the task says and verify it. When you are \
done, reply without calling a tool.
"""

# Runs a command line ($2) in a directory ($1).
BASH = """
cd "$1" 2>/dev/null || { cd /; echo "($1 is gone, so this runs in /)"; }
if command -v bash >/dev/null 2>&1; then exec bash -c "$2"; else exec sh -c "$2"; fi
"""
# Prints a file ($1) if it has at most $2 bytes.
READ = """
if [ -e "$1" ] && [ ! -f "$1" ]; then echo "not a regular file"; exit 1; fi
size=$(wc -c <"$1") || exit 1
if [ "$size" -gt "$2" ]; then echo "$((size)) bytes is over the limit of $2; use bash to read parts of it"; exit 1; fi
cat "$1"
"""
# Write text ($2) to a file ($1); WRITE creates its directory ($3) if needed.
WRITE = 'mkdir -p "$3" && printf %s "$2" >"$1"'
APPEND = 'printf %s "$2" >>"$1"'


def tool(name: str, description: str, required: int, **parameters: tuple[str, str]) -> dict[str, Any]:
    """Return the description of a tool for the model.

    Args:
        name: the tool's name.
        description: what the tool does.
        required: how many of the first parameters are required.
        parameters: the type and the meaning of each parameter.

    """
    properties = {key: {"type": kind, "description": meaning} for key, (kind, meaning) in parameters.items()}
    schema = {"type": "object", "properties": properties, "required": list(parameters)[:required]}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


PATH = ("string", "Absolute, or relative to the working directory")
TOOLS: Any = [
    tool(
        "bash",
        "Run a command line in a new shell, and return its exit code and output (stdout and stderr).",
        1,
        command=("string", "The command line or script"),
        timeout_seconds=("integer", f"Time limit in seconds (default: {COMMAND_SECONDS})"),
    ),
    tool(
        "read_file",
        "Read a text file or a range of its lines.",
        1,
        path=PATH,
        first_line=("integer", "First line to read, starting at 1 (default: 1)"),
        lines=("integer", "Number of lines to read (default: all)"),
    ),
    tool(
        "write_file",
        "Write a text file, replacing its content; missing directories are created.",
        2,
        path=PATH,
        content=("string", "The complete content, including the final newline"),
    ),
    tool(
        "edit_file",
        "Replace a passage that occurs exactly once in a text file.",
        3,
        path=PATH,
        old=("string", "The exact passage, with enough lines to be unique"),
        new=("string", "The replacement"),
    ),
]
PARAMETERS: dict[str, Any] = {entry["function"]["name"]: entry["function"]["parameters"] for entry in TOOLS}


class ToolError(Exception):
    """A tool call that fails; the reason is returned to the model."""


class ModelError(Exception):
    """The server rejects the agent's request, or its response makes no sense."""


class ConfigurationError(InfrastructureError):
    """A missing or wrong setting: not a failure of the agent, so the trial is neither graded nor retried."""

    retry = False


def solve(task: Task, environment: AgentEnvironment) -> str:
    """Let the model work on a task, and return how the conversation ended.

    Raises:
        InfrastructureError: a setting is missing or wrong, or the server fails, which says nothing about the agent.
        ModelError: the server rejects a request, or its response makes no sense.

    """
    environment.directory.mkdir(parents=True, exist_ok=True)
    with (environment.directory / "transcript.jsonl").open("wb", buffering=0) as transcript:
        return Conversation(environment, transcript).run(task.instruction)


class Conversation:
    """The conversation with the model, and the environment in which its tools act."""

    def __init__(self, environment: AgentEnvironment, transcript: Any) -> None:
        self.environment = environment
        self.transcript = transcript
        self.messages: list[Any] = []
        self.answered = False

    def run(self, instruction: str) -> str:
        """Call the model and run its tools until it stops calling tools or has used all its turns."""
        model, url, key = (self.setting(name) for name in ("OPENAI_MODEL", "OPENAI_BASE_URL", "OPENAI_API_KEY"))
        turns = self.setting("HARBOR_AGENT_MAX_TURNS") or str(MAX_TURNS)
        if not model:
            raise ConfigurationError("no model is set", "give --harbor-model=NAME")
        if not url and not key:
            raise ConfigurationError(
                "no model server is set", "set OPENAI_API_KEY, or OPENAI_BASE_URL for your own server"
            )
        if url and not re.match(r"https?://[^/]", url):
            raise ConfigurationError(
                f"OPENAI_BASE_URL={url} is not a URL", "use http://HOST:PORT/v1 or https://HOST/v1"
            )
        if not turns.isdecimal() or int(turns) == 0:
            raise ConfigurationError(f"HARBOR_AGENT_MAX_TURNS={turns} is not valid", "use a whole number above 0")
        self.add({"role": "system", "content": SYSTEM.format(workdir=self.environment.workdir)})
        self.add({"role": "user", "content": instruction})
        # Self-hosted servers often need no key, but the client does.
        # A server on this machine, such as the model proxy, is not behind a network proxy.
        is_local = re.match(r"https?://(127\.0\.0\.1|localhost|\[::1\])[:/]", url)
        http = openai.DefaultHttpxClient(trust_env=False) if is_local else None
        with openai.OpenAI(base_url=url or None, api_key=key or "none", http_client=http) as client:
            for turn in range(1, int(turns) + 1):
                self.environment.log(f"\n--- turn {turn} of {turns}\n")
                try:
                    done = self.take_turn(client, model)
                except openai.APIError as error:
                    return handle_error(error, client, is_first=not self.answered)
                if done:
                    return f"The model finished after {turn} turn{'' if turn == 1 else 's'}."
        return f"The model used all of its {turns} turns."

    def setting(self, name: str) -> str:
        """Return an environment variable of the agent, or else of the host."""
        return self.environment.variables.get(name) or os.environ.get(name, "")

    def add(self, message: dict[str, Any]) -> None:
        """Add a message to the conversation and the transcript."""
        # JSON can contain half a surrogate pair, which cannot be sent.
        line = json.dumps(message, ensure_ascii=False).encode("utf-8", "replace")
        self.messages.append(json.loads(line))
        self.transcript.write(line + b"\n")

    def take_turn(self, client: openai.OpenAI, model: str) -> bool:
        """Call the model once and run its tool calls; return True if the model is done."""
        completion = client.chat.completions.create(model=model, messages=self.messages, tools=TOOLS)
        if not getattr(completion, "choices", None):
            fact = f"the response is not a completion: {str(completion)[:300]!r}"
            if not self.answered:
                raise ConfigurationError(fact, "check OPENAI_BASE_URL: does it end with /v1?")
            raise ModelError(fact)
        self.answered = True
        choice = completion.choices[0]
        # Some servers need their own fields back, so keep them; others reject empty fields, so drop those.
        message = {k: v for k, v in choice.message.to_dict().items() if k == "content" or v not in (None, [], {})}
        calls: Any = message.get("tool_calls", [])
        if not calls:
            message["content"] = message.get("content") or message.get("refusal") or "(no text)"
        if message.get("content"):
            self.environment.log(f"{message['content']}\n")
        parsed = [parse_call(call) for call in calls]
        self.add({**message, "role": "assistant"})
        for call, (name, arguments) in zip(calls, parsed, strict=True):
            self.add({"role": "tool", "tool_call_id": call.get("id", ""), "content": self.call_tool(name, arguments)})
        if choice.finish_reason == "length":
            self.environment.log("[the answer was too long and was cut off]\n")
            self.add(
                {"role": "user", "content": "Your answer was too long and was cut off. Continue in smaller steps."}
            )
            return False
        return not calls

    def call_tool(self, name: str, arguments: Any) -> str:
        """Run a tool and return its result for the model, or what is wrong with the call."""
        try:
            given = validate(name, arguments)
            return str(getattr(self, name)(**given))
        except ToolError as error:
            self.environment.log(f"[{name}: {error}]\n")
            return f"Error: {error}"

    # The tools, called by name.

    def bash(self, command: str, timeout_seconds: int = COMMAND_SECONDS) -> str:
        """Run a command line as the agent's user, in the working directory."""
        self.environment.log(f"$ {command}\n")
        words = ["sh", "-c", BASH, "sh", self.environment.workdir, command]
        result = self.environment.exec(words, cwd="/", timeout=timeout_seconds)
        ending = f"exit code {result.exit_code}"
        if result.timed_out:
            ending = f"timed out after {timeout_seconds} s; killed with every process it had started"
        self.environment.log(f"[{ending}]\n")
        return f"[{ending}]\n{truncate(result.output)}"

    def read_file(self, path: str, first_line: int = 1, lines: int | None = None) -> str:
        """Return a text file, or some of its lines with their numbers."""
        self.environment.log(f"[read_file {path}]\n")
        found = re.findall(r".*\n|.+", self.read(path))
        chosen = found[first_line - 1 :][:lines]
        if len(chosen) == len(found):
            return truncate("".join(found)) or "[the file is empty]"
        if not chosen:
            raise ToolError(f"{path} has no line {first_line:,}; its last line is {len(found):,}")
        last = first_line + len(chosen) - 1
        return f"[lines {first_line:,} to {last:,} of {len(found):,}]\n{truncate(''.join(chosen))}"

    def write_file(self, path: str, content: str) -> str:
        """Write a text file."""
        self.environment.log(f"[write_file {path}, {len(content):,} characters]\n")
        self.write(path, content)
        return f"Wrote {path}."

    def edit_file(self, path: str, old: str, new: str) -> str:
        """Replace a passage that occurs exactly once in a text file."""
        self.environment.log(f"[edit_file {path}]\n- {old}\n+ {new}\n")
        text = self.read(path)
        count = text.count(old) if old else 0
        if count != 1:
            raise ToolError(f"the passage occurs {count:,} times in {path}, not once; nothing was changed")
        self.write(path, text.replace(old, new))
        return f"Edited {path}."

    def read(self, path: str) -> str:
        """Return the content of a text file."""
        text = self.run_script(READ, path, str(FILE_BYTES))
        if "\0" in text or "\ufffd" in text:
            raise ToolError(f"{path} is not UTF-8 text; use bash for it")
        return text

    def write(self, path: str, content: str) -> None:
        """Replace the content of a file, in chunks that fit into an argument."""
        self.run_script(WRITE, path, content[:CHUNK_CHARACTERS], posixpath.dirname(self.absolute(path)))
        for start in range(CHUNK_CHARACTERS, len(content), CHUNK_CHARACTERS):
            self.run_script(APPEND, path, content[start : start + CHUNK_CHARACTERS])

    def run_script(self, script: str, path: str, *arguments: str) -> str:
        """Run a script on a file as the agent's user, and return its output."""
        words = ["sh", "-c", script, "sh", self.absolute(path), *arguments]
        result = self.environment.exec(words, cwd="/", timeout=FILE_SECONDS, log=False)
        if result.timed_out or result.exit_code != 0:
            raise ToolError(f"{path}: {result.output.strip() or 'timed out'}")
        return result.output

    def absolute(self, path: str) -> str:
        """Return a path as an absolute one."""
        return posixpath.join(self.environment.workdir, path)


def parse_call(call: Any) -> tuple[str, Any]:
    """Return the name and the arguments of a tool call.

    Arguments that are not valid JSON are returned as text, and emptied in the call, because some servers reject them
    when the call is sent back.
    """
    function = call["function"] = call.get("function") or {}
    text: Any = function.get("arguments")
    try:
        return str(function.get("name")), json.loads(text)
    except (TypeError, ValueError, RecursionError):
        function["arguments"] = "{}"
        return str(function.get("name")), text


def validate(name: str, arguments: Any) -> dict[str, Any]:
    """Return the arguments of a tool call without those that are null.

    Raises:
        ToolError: the tool does not exist, or its arguments are not valid.

    """
    if name not in PARAMETERS:
        raise ToolError(f"there is no tool {name!r}; use {', '.join(PARAMETERS)}")
    if not isinstance(arguments, dict):
        raise ToolError(f"the arguments are not a JSON object: {truncate(str(arguments), 1_000)}")
    given = {key: value for key, value in arguments.items() if value is not None}
    known, required = PARAMETERS[name]["properties"], PARAMETERS[name]["required"]
    if wrong := [key for key in given if key not in known] + [key for key in required if key not in given]:
        raise ToolError(f"{name} takes {', '.join(known)} and requires {', '.join(required)}; check {', '.join(wrong)}")
    for key, value in given.items():
        if known[key]["type"] == "string" and not isinstance(value, str):
            raise ToolError(f"{key} must be a string")
        if known[key]["type"] == "integer" and (not isinstance(value, int) or value < 1):
            raise ToolError(f"{key} must be a whole number above 0")
    return given


def truncate(text: str, limit: int = OUTPUT_CHARACTERS) -> str:
    """Return a text, or the beginning and the end of a long one, with the number of characters omitted between."""
    if len(text) <= limit:
        return text
    half = limit // 2
    middle = text[half:-half]
    # The environment has already truncated very long output there.
    at_least = "more than " if re.search(r" bytes? omitted \.\.\.\]", middle) else ""
    return f"{text[:half]}\n[... {at_least}{len(middle):,} characters omitted ...]\n{text[-half:]}"


def handle_error(error: openai.APIError, client: openai.OpenAI, *, is_first: bool) -> str:
    """Return how the conversation ended if an error only means the end of it, or else raise an exception.

    Args:
        error: the error.
        client: the client that raised it.
        is_first: whether no call has succeeded before.

    Raises:
        InfrastructureError: the server cannot be reached, is overloaded or broken, or rejects the key; or it does not
            know the model, or the URL, of the first call.
        ModelError: the server rejects the request.

    """
    # Error codes from the proxy that `--harbor-proxy` starts have this prefix.
    code = str(error.code or "")
    status = getattr(error, "status_code", 0)
    if status == 429 and code.startswith("harbor_"):
        return f"The budget is spent: {error.message}"
    if not code.startswith("harbor_") and re.search(
        r"context.?(length|size|window)", f"{code} {error.message}", re.IGNORECASE
    ):
        return f"The conversation is too long for the model: {error.message}"
    cause = f" ({error.__cause__})" if error.__cause__ else ""
    fact = f"the model server {client.base_url.netloc.decode().rpartition('@')[2]} failed: {error.message}{cause}"
    if is_first and (status in (404, 405) or code == "model_not_found"):
        raise ConfigurationError(fact, "is the model's name right? Does OPENAI_BASE_URL end with /v1?") from error
    if status in (401, 402, 403):
        raise ConfigurationError(fact, "check OPENAI_API_KEY and OPENAI_BASE_URL") from error
    if isinstance(error, openai.APIConnectionError):
        raise InfrastructureError(fact, "check that it is running, and check OPENAI_BASE_URL") from error
    if status in (408, 409, 429) or status >= 500:
        raise InfrastructureError(fact) from error
    raise ModelError(fact) from error
