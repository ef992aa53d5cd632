"""A tiny agent as a Python callable: it works on the host and reaches into the environment of the trial.

    pytest --harbor-dataset=examples/tasks --harbor-agent=examples/agents/callable_agent.py:solve

`solve_async` is the same agent for those whose code is asynchronous. What they return is logged.
"""

import re
import tempfile
from pathlib import Path


def solve(task, environment):
    """Write the file that the instruction shows as an indented block; leave other tasks alone."""
    result = environment.exec("cat /task/instruction.md")  # the same text as task.instruction
    if result.exit_code != 0:
        raise RuntimeError(f"{task.name}: no instruction: {result.output}")
    wanted = wanted_file(result.output)
    if wanted is None:
        return "I do not know how to do this."

    path, content = wanted
    with tempfile.TemporaryDirectory() as folder:
        there, back = Path(folder, "there"), Path(folder, "back")
        there.write_text(content, encoding="utf-8")
        environment.upload(there, path)
        environment.download(path, back)
        return f"{path} holds {back.read_text(encoding='utf-8')!r} now."


async def solve_async(task, environment):
    """Do the same with a shell command, in an environment whose methods are awaited."""
    wanted = wanted_file(task.instruction)
    if wanted is None:
        return "I do not know how to do this."

    path, content = wanted
    result = await environment.exec(f"cat > {path} <<'END'\n{content}END\n")
    return f"Wrote {path}, exit code {result.exit_code}. {result.output}"


def wanted_file(instruction):
    """Return the path and the content that an instruction asks for, or None if it asks for something else."""
    path = re.search(r"Create\s+the\s+file\s+`([^`]+)`\s+with\s+exactly", instruction)
    block = re.search(r"(?:^    .*\n)+", instruction, re.MULTILINE)
    if path is None or block is None:
        return None
    return path[1], re.sub("^    ", "", block[0], flags=re.MULTILINE)
