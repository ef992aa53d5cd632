"""A tiny agent as a Python callable: it runs on the host and acts in the trial's environment.

    pytest --harbor-dataset=examples/tasks --harbor-agent=examples/agents/callable_agent.py:solve

`solve_async` is the same agent as an async function. The return value is logged.
"""

import re
import tempfile
from pathlib import Path


def solve(task, environment):
    """Write the file that the instruction shows as an indented block; leave other tasks alone."""
    result = environment.exec("cat /task/instruction.md")  # the same text as task.instruction
    if result.exit_code != 0:
        raise RuntimeError(f"{task.name}: no instruction: {result.output}")
    request = requested_file(result.output)
    if request is None:
        return "I don't know how to do this."

    path, content = request
    with tempfile.TemporaryDirectory() as folder:
        source, copy = Path(folder, "source"), Path(folder, "copy")
        source.write_text(content, encoding="utf-8")
        environment.upload(source, path)
        environment.download(path, copy)
        return f"{path} now contains {copy.read_text(encoding='utf-8')!r}."


async def solve_async(task, environment):
    """Do the same with a shell command, in an environment whose methods are awaited."""
    request = requested_file(task.instruction)
    if request is None:
        return "I don't know how to do this."

    path, content = request
    result = await environment.exec(f"cat > {path} <<'END'\n{content}END\n")
    return f"Wrote {path}, exit code {result.exit_code}. {result.output}"


def requested_file(instruction):
    """Return the path and the content that an instruction asks for, or None if it asks for something else."""
    path = re.search(r"Create\s+the\s+file\s+`([^`]+)`\s+with\s+exactly", instruction)
    block = re.search(r"(?:^    .*\n)+", instruction, re.MULTILINE)
    if path is None or block is None:
        return None
    return path[1], re.sub("^    ", "", block[0], flags=re.MULTILINE)
