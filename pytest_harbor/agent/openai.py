"""A terminal agent for any model behind an OpenAI-compatible server; small, to be read, copied and changed.

    pytest --harbor-dataset=DATASET --harbor-agent=openai --harbor-model=MODEL

A copy works as it is: `--harbor-agent=my_agent.py:solve`. It runs on the host and needs no more of an image than a
POSIX shell with `cat`, `wc` and `mkdir`.

OPENAI_BASE_URL, OPENAI_API_KEY and OPENAI_MODEL say where the model is, as variables of the agent or else of the host;
HARBOR_AGENT_MAX_TURNS changes how often it may be asked. The conversation is kept in `transcript.jsonl`, one message
a line.
"""

from __future__ import annotations

import json
import os
import posixpath
import re
from typing import TYPE_CHECKING, Any

import openai

from pytest_harbor.errors import CannotExecute, InfrastructureError

if TYPE_CHECKING:
    from pytest_harbor.agent.callable import AgentEnvironment
    from pytest_harbor.task import Task

MAX_TURNS = 100
COMMAND_SECONDS = 120
FILE_SECONDS = 60
OUTPUT_CHARACTERS = 20_000
FILE_BYTES = 1_000_000
# What a program gets as one argument is at most 128 KiB, and a character is up to 4 bytes.
PIECE_CHARACTERS = 30_000

SYSTEM = """\
You work on a task in a Linux environment, with the tools that you are given. Nobody answers questions: decide for \
yourself, and look at the results of what you do. Programs that wait for input, such as editors and pagers, only hang.

Your working directory is {workdir}. Every call of bash is a new shell in it: directories and variables of earlier \
calls are forgotten, files and background processes stay. Long output is cut in the middle.

What you leave is graded by tests that you do not see, so do exactly what the task says and check it. When you are \
done, answer without calling a tool.
"""

# Runs a command line ($2) in a directory ($1).
BASH = """
cd "$1" 2>/dev/null || { cd /; echo "($1 is gone, so this runs in /)"; }
if command -v bash >/dev/null 2>&1; then exec bash -c "$2"; else exec sh -c "$2"; fi
"""
# Prints a file ($1) of at most so many bytes ($2).
READ = """
if [ -e "$1" ] && [ ! -f "$1" ]; then echo "it is no regular file"; exit 1; fi
size=$(wc -c <"$1") || exit 1
if [ "$size" -gt "$2" ]; then echo "it has $((size)) bytes, more than $2; use bash for parts of it"; exit 1; fi
cat "$1"
"""
# Write a text ($2) to a file ($1), in a directory ($3) that may have to be made.
WRITE = 'mkdir -p "$3" && printf %s "$2" >"$1"'
APPEND = 'printf %s "$2" >>"$1"'


def tool(name: str, description: str, required: int, **parameters: tuple[str, str]) -> dict[str, Any]:
    """Describe a tool to the model; the first so many of its parameters, each with type and meaning, are required."""
    properties = {key: {"type": kind, "description": meaning} for key, (kind, meaning) in parameters.items()}
    schema = {"type": "object", "properties": properties, "required": list(parameters)[:required]}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


PATH = ("string", "Absolute, or relative to the working directory")
TOOLS: Any = [
    tool(
        "bash",
        "Run a command line in a new shell, and get its exit code and output (standard output and error).",
        1,
        command=("string", "The command line, or a whole script"),
        timeout_seconds=("integer", f"When to kill it (default: {COMMAND_SECONDS})"),
    ),
    tool(
        "read_file",
        "Read a text file, or some of its lines.",
        1,
        path=PATH,
        first_line=("integer", "The first line to read, counted from 1 (default: 1)"),
        lines=("integer", "How many lines to read (default: all)"),
    ),
    tool(
        "write_file",
        "Write a text file; what it held is replaced, and directories that are missing are made.",
        2,
        path=PATH,
        content=("string", "The whole content, with the line break at its end"),
    ),
    tool(
        "edit_file",
        "Replace a passage of a text file that is in it exactly once.",
        3,
        path=PATH,
        old=("string", "The passage, to the letter, with as many lines as make it the only one"),
        new=("string", "What takes its place"),
    ),
]
PARAMETERS: dict[str, Any] = {entry["function"]["name"]: entry["function"]["parameters"] for entry in TOOLS}


class ToolError(Exception):
    """A tool cannot do what it is called for; the model is told why."""


class ModelError(Exception):
    """The model's server does not take what the agent sends, or answers what makes no sense."""


class Misconfigured(InfrastructureError):
    """No model can be asked: no fault of an agent, so nothing is graded, and nothing tried again."""

    retry = False


def solve(task: Task, environment: AgentEnvironment) -> str:
    """Let the model work on a task, and return how that ended.

    Raises:
        InfrastructureError: no model or no server was named, or the server fails, which says nothing about the agent.
        ModelError: the server does not take what it is sent, or answers what makes no sense.

    """
    environment.directory.mkdir(parents=True, exist_ok=True)
    with (environment.directory / "transcript.jsonl").open("wb", buffering=0) as transcript:
        return Conversation(environment, transcript).run(task.instruction)


class Conversation:
    """What has been said, and the environment that the model's tools work in."""

    def __init__(self, environment: AgentEnvironment, transcript: Any) -> None:
        self.environment = environment
        self.transcript = transcript
        self.messages: list[Any] = []

    def run(self, instruction: str) -> str:
        """Ask the model and do what it says, until it calls no more tools or has had all its turns."""
        model, url, key = (self.setting(name) for name in ("OPENAI_MODEL", "OPENAI_BASE_URL", "OPENAI_API_KEY"))
        turns = self.setting("HARBOR_AGENT_MAX_TURNS") or str(MAX_TURNS)
        if not model:
            raise Misconfigured("no model was named", "give --harbor-model=NAME")
        if not url and not key:
            raise Misconfigured("no model server was named", "set OPENAI_API_KEY, or OPENAI_BASE_URL for one of yours")
        if not turns.isdecimal() or int(turns) == 0:
            raise Misconfigured(f"HARBOR_AGENT_MAX_TURNS={turns} is not valid", "use a whole number above 0")
        self.say({"role": "system", "content": SYSTEM.format(workdir=self.environment.workdir)})
        self.say({"role": "user", "content": instruction})
        # Servers of one's own often want no key, but the client does.
        with openai.OpenAI(base_url=url or None, api_key=key or "none") as client:
            for turn in range(1, int(turns) + 1):
                self.environment.log(f"\n--- turn {turn} of {turns}\n")
                try:
                    done = self.take_turn(client, model)
                except openai.APIError as error:
                    return explain(error, client)
                if done:
                    return f"The model was done after {turn} turns."
        return f"The model has had its {turns} turns."

    def setting(self, name: str) -> str:
        """Return a variable of the agent, or else of the host."""
        return self.environment.variables.get(name) or os.environ.get(name, "")

    def say(self, message: dict[str, Any]) -> None:
        """Add a message to the conversation and the transcript."""
        # Half a surrogate pair, which JSON can spell, would go into no request.
        line = json.dumps(message, ensure_ascii=False).encode("utf-8", "replace")
        self.messages.append(json.loads(line))
        self.transcript.write(line + b"\n")

    def take_turn(self, client: openai.OpenAI, model: str) -> bool:
        """Ask the model once and run the tools that it calls; return whether it is done."""
        completion = client.chat.completions.create(model=model, messages=self.messages, tools=TOOLS)
        if not getattr(completion, "choices", None):
            raise ModelError(f"no completion came but {str(completion)[:300]!r}; see whether OPENAI_BASE_URL is right")
        choice = completion.choices[0]
        # Fields that only some servers know are kept, as they may want them back; what is empty, others refuse.
        message = {k: v for k, v in choice.message.to_dict().items() if k == "content" or v not in (None, [], {})}
        calls: Any = message.get("tool_calls", [])
        if not calls:
            message["content"] = message.get("content") or message.get("refusal") or "(no text)"
        if message.get("content"):
            self.environment.log(f"{message['content']}\n")
        parsed = [parse(call) for call in calls]
        self.say({**message, "role": "assistant"})
        for call, (name, arguments) in zip(calls, parsed, strict=True):
            self.say({"role": "tool", "tool_call_id": call.get("id", ""), "content": self.use(name, arguments)})
        if choice.finish_reason == "length":
            self.environment.log("[the answer was cut off, as it was too long]\n")
            self.say({"role": "user", "content": "Your answer was too long and was cut off. Go on in smaller steps."})
            return False
        return not calls

    def use(self, name: str, arguments: Any) -> str:
        """Run a tool and return what the model is told; whatever is wrong with the call, it is told that."""
        try:
            given = checked(name, arguments)
            return str(getattr(self, name)(**given))
        except (ToolError, CannotExecute) as error:
            self.environment.log(f"[{name}: {error}]\n")
            return f"Error: {error}"

    # The tools.

    def bash(self, command: str, timeout_seconds: int = COMMAND_SECONDS) -> str:
        """Run a command line as the agent's user, in the working directory."""
        self.environment.log(f"$ {command}\n")
        words = ["sh", "-c", BASH, "sh", self.environment.workdir, command]
        result = self.environment.exec(words, cwd="/", timeout=timeout_seconds)
        ending = f"exit code {result.exit_code}"
        if result.timed_out:
            ending = f"killed with all it had started, as its {timeout_seconds} seconds were over"
        self.environment.log(f"[{ending}]\n")
        return f"[{ending}]\n{cut(result.output)}"

    def read_file(self, path: str, first_line: int = 1, lines: int | None = None) -> str:
        """Return lines of a text file, and which they are unless they are all."""
        self.environment.log(f"[read_file {path}]\n")
        found = re.findall(r".*\n|.+", self.text_of(path))
        chosen = found[first_line - 1 :][:lines]
        if len(chosen) == len(found):
            return cut("".join(found)) or "[the file is empty]"
        if not chosen:
            raise ToolError(f"{path} has no line {first_line:,}, only {len(found):,} lines")
        last = first_line + len(chosen) - 1
        return f"[lines {first_line:,} to {last:,} of {len(found):,}]\n{cut(''.join(chosen))}"

    def write_file(self, path: str, content: str) -> str:
        """Write a text file."""
        self.environment.log(f"[write_file {path}, {len(content):,} characters]\n")
        self.write(path, content)
        return f"{path} is written."

    def edit_file(self, path: str, old: str, new: str) -> str:
        """Replace a passage that is in a text file exactly once."""
        self.environment.log(f"[edit_file {path}]\n- {old}\n+ {new}\n")
        text = self.text_of(path)
        count = text.count(old) if old else 0
        if count != 1:
            raise ToolError(f"the passage is in {path} {count:,} times, not once; nothing is changed")
        self.write(path, text.replace(old, new))
        return f"{path} is changed."

    def text_of(self, path: str) -> str:
        """Return the whole content of a text file."""
        text = self.on_file(READ, path, str(FILE_BYTES))
        if "\0" in text or "\ufffd" in text:
            raise ToolError(f"{path} is no text in UTF-8; use bash for it")
        return text

    def write(self, path: str, content: str) -> None:
        """Replace the content of a file, in pieces that fit into an argument."""
        first, *others = [content[at : at + PIECE_CHARACTERS] for at in range(0, len(content), PIECE_CHARACTERS)] or [
            ""
        ]
        self.on_file(WRITE, path, first, posixpath.dirname(self.full(path)))
        for piece in others:
            self.on_file(APPEND, path, piece)

    def on_file(self, script: str, path: str, *arguments: str) -> str:
        """Run a script on a file as the agent's user, and return its output."""
        words = ["sh", "-c", script, "sh", self.full(path), *arguments]
        result = self.environment.exec(words, cwd="/", timeout=FILE_SECONDS, log=False)
        if result.timed_out or result.exit_code != 0:
            raise ToolError(f"{path}: {result.output.strip() or 'its time is over'}")
        return result.output

    def full(self, path: str) -> str:
        """Return an absolute path."""
        return posixpath.join(self.environment.workdir, path)


def parse(call: Any) -> tuple[str, Any]:
    """Return name and arguments of a tool call.

    Arguments that are no JSON are returned as text and emptied in the call, which some servers would not take back.
    """
    function = call["function"] = call.get("function") or {}
    text: Any = function.get("arguments")
    try:
        return str(function.get("name")), json.loads(text)
    except (TypeError, ValueError, RecursionError):
        function["arguments"] = "{}"
        return str(function.get("name")), text


def checked(name: str, arguments: Any) -> dict[str, Any]:
    """Return the arguments of a tool as it can take them.

    Raises:
        ToolError: there is no such tool, or it cannot take them.

    """
    if name not in PARAMETERS:
        raise ToolError(f"there is no tool {name!r}; there are {', '.join(PARAMETERS)}")
    if not isinstance(arguments, dict):
        raise ToolError(f"the arguments are no JSON object: {cut(str(arguments), 1_000)}")
    given = {key: value for key, value in arguments.items() if value is not None}
    known, required = PARAMETERS[name]["properties"], PARAMETERS[name]["required"]
    if wrong := [key for key in given if key not in known] + [key for key in required if key not in given]:
        raise ToolError(f"{name} takes {', '.join(known)} and needs {', '.join(required)}: see {', '.join(wrong)}")
    for key, value in given.items():
        if known[key]["type"] == "string" and not isinstance(value, str):
            raise ToolError(f"{key} must be a string")
        if known[key]["type"] == "integer" and (not isinstance(value, int) or value < 1):
            raise ToolError(f"{key} must be a whole number above 0")
    return given


def cut(text: str, limit: int = OUTPUT_CHARACTERS) -> str:
    """Return beginning and end of a text that is too long, and between them how much is left out."""
    if len(text) <= limit:
        return text
    half = limit // 2
    middle = text[half:-half]
    # The environment has cut out something there already when the output was very long.
    number = f"{'more than ' if ' omitted ...]' in middle else ''}{len(middle):,}"
    return f"{text[:half]}\n[... {number} characters left out ...]\n{text[-half:]}"


def explain(error: openai.APIError, client: openai.OpenAI) -> str:
    """Return what an error means that only ends the work.

    Raises:
        InfrastructureError: the server cannot be reached, is overloaded or broken, or refuses the key.
        ModelError: it does not take what it was sent.

    """
    # The codes of the proxy that `--harbor-proxy` starts begin like this.
    code = str(error.code or "")
    status = getattr(error, "status_code", 0)
    if status == 429 and code.startswith("harbor_"):
        return f"The budget is spent: {error.message}"
    if not code.startswith("harbor_") and re.search(
        r"context.?(length|size|window)", f"{code} {error.message}", re.IGNORECASE
    ):
        return f"The conversation has become too long for the model: {error.message}"
    why = f" ({error.__cause__})" if error.__cause__ else ""
    said = f"the model's server {client.base_url.netloc.decode()} fails: {error.message}{why}"
    if status in (401, 402, 403):
        raise Misconfigured(said, "see whether OPENAI_API_KEY and OPENAI_BASE_URL are right") from error
    if isinstance(error, openai.APIConnectionError):
        raise InfrastructureError(said, "see whether it runs, and whether OPENAI_BASE_URL is right") from error
    if status in (408, 409, 429) or status >= 500:
        raise InfrastructureError(said) from error
    raise ModelError(said) from error
