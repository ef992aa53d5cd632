"""Write env.py, the program of a deployable image: a short head of its own, and the texts of modules of ours.

The file stands alone but for hud-python. It is HUD's: `hud dev env:env --stdio` serves it as well as its own start.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

_PACKAGE = Path(__file__).parents[1]

MODULES = (
    "_util/sizes.py",
    "environment/entrypoint.py",
    "environment/namespace/inside/users.py",
    "task/canary.py",
    "task/variables.py",
    "trial/backoff.py",
    "trial/reward.py",
    "hud/tools/shell.py",
    "hud/tools/scripts.py",
    "hud/tools/text.py",
    "hud/tools/tools.py",
    "hud/in_container/processes.py",
    "hud/in_container/sealed.py",
    "hud/in_container/grading.py",
    "hud/in_container/container.py",
)
"""What env.py consists of, in the order in which one needs the other."""

_IMPORTS = """\
import asyncio
import base64
import logging
import os
from mcp.types import ImageContent
from hud import Environment
"""

_TASK_IMPORTS = """\
from collections.abc import AsyncGenerator
from hud.tools.types import EvaluationResult
"""

_SCENARIO = '''

@env.scenario("run-task")
async def run_task({parameter}) -> AsyncGenerator[Any, None]:
    """Give the instruction of a task to the agent, then run the tests of the task on what it has done."""
    yield await container.set_up(task_id)
    yield EvaluationResult(**await container.grade())
'''

_TAIL = '''

# {rule}
# The start
# {rule}


def _image(data: bytes, mime: str) -> ImageContent:
    return ImageContent(type="image", data=base64.b64encode(data).decode(), mimeType=mime)


container = Container(TASK_NAMES)
tools = Tools(container.shell, _image)
for tool in (tools.bash, tools.edit, tools.read, tools.grep, tools.glob, tools.list):
    env.tool(tool)
# What a tool says to the model is no error of the server's that were worth a traceback.
logging.getLogger("fastmcp.server.server").addFilter(
    lambda record: not record.exc_info or not isinstance(record.exc_info[1], ToolError)
)


def main() -> None:
    """Serve MCP on standard input and output, until the input ends."""
    asyncio.run(env.run_async(transport="stdio", show_banner=False))
    os._exit(0)


if __name__ == "__main__":
    main()
'''

_RULE = "-" * 76


def env_py(name: str, tasks: Sequence[str]) -> str:
    """Return the text of env.py.

    Args:
        name: the environment's name.
        tasks: names of the tasks below /harbor/tasks; without any there are tools and no scenario.

    """
    bodies, imports = [], _Imports()
    imports.take(_IMPORTS + (_TASK_IMPORTS if tasks else ""))
    for module in MODULES:
        text = (_PACKAGE / module).read_text(encoding="utf-8")
        title, body = _taken_apart(text, imports)
        bodies.append(f"\n\n# {_RULE}\n# {title}\n# {_RULE}\n{_gap(body)}{body}\n")
    if len(tasks) > 1:
        imports.take("from typing import Literal\n")
    head = [
        _docstring(name, tasks),
        "\nfrom __future__ import annotations\n\n",
        imports.text(),
        "\n",
        _head(name, tasks),
    ]
    return "".join([*head, *bodies, _TAIL.format(rule=_RULE)])


def _docstring(name: str, tasks: Sequence[str]) -> str:
    what = f"{len(tasks)} Harbor task{'s' if len(tasks) > 1 else ''} as a HUD environment" if tasks else "tools for HUD"
    lines = [f'"""{_plain(name)}: {what}. Written by pytest-harbor.', ""]
    if tasks:
        lines += [
            "The scenario run-task gives a task's instruction, and after the agent's work the reward that the task's",
            "tests leave. Until then the tests are where no agent can read them.",
            "",
        ]
    lines += ["Start: hud dev env:env --stdio, or python env.py.", '"""']
    return "\n".join(lines) + "\n"


def _head(name: str, tasks: Sequence[str]) -> str:
    quoted = [literal(task) for task in tasks]
    # The names as a tuple of one a line, which no formatter changes.
    listed = "".join(f"    {task},\n" for task in quoted)
    lines = [f"env = Environment({literal(name)}, lifespan=lambda server: container.served(server))\n"]
    if len(tasks) > 1:
        lines += [f"TaskId = Literal[\n{listed}]\nTASK_NAMES = (\n{listed})\n"]
        lines += [_SCENARIO.format(parameter="task_id: TaskId")]
    elif tasks:
        lines += [f"TASK_NAMES = ({quoted[0]},)\n", _SCENARIO.format(parameter=f"task_id: str = {quoted[0]}")]
    else:
        lines += ["TASK_NAMES = ()\n"]
    return "".join(lines)


def literal(text: str) -> str:
    """Return a string literal with the quotes that formatters prefer, all of it on one line and printable."""
    quote = "'" if text.count('"') > text.count("'") else '"'
    return quote + "".join(_character(c, quote) for c in text) + quote


def _character(char: str, quote: str) -> str:
    if char in ("\\", quote):
        return "\\" + char
    return char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode("ascii")


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9 ._-]", "?", name)


def _taken_apart(text: str, imports: _Imports) -> tuple[str, str]:
    """Return the first line of a module's docstring and its text without docstring and imports, which are noted."""
    tree = ast.parse(text)
    lines = text.splitlines()
    for node in tree.body:
        if isinstance(node, (ast.Import, ast.ImportFrom)) or _is_docstring(node, tree) or _is_for_types(node):
            if not _is_docstring(node, tree):
                imports.take("\n".join(lines[node.lineno - 1 : node.end_lineno]))
            for number in range(node.lineno - 1, node.end_lineno or node.lineno):
                lines[number] = "\0"
    kept = "\n".join(line for line in lines if line != "\0").strip("\n")
    return (ast.get_docstring(tree) or "").partition("\n")[0], re.sub(r"\n{4,}", "\n\n\n", kept)


def _gap(body: str) -> str:
    return "\n\n" if body.startswith(("def ", "class ", "@")) else "\n"


def _is_docstring(node: ast.stmt, tree: ast.Module) -> bool:
    return node is tree.body[0] and isinstance(node, ast.Expr)


def _is_for_types(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


class _Imports:
    """The imports of several modules, those for type checkers too."""

    def __init__(self) -> None:
        self._modules: set[str] = set()
        self._names: defaultdict[str, set[str]] = defaultdict(set)

    def take(self, text: str) -> None:
        """Note the imports of a text, but those of modules that are part of env.py."""
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                self._modules |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                ours = node.module.partition(".")[0] in ("pytest_harbor", "__future__")
                names = {alias.name for alias in node.names if alias.name != "TYPE_CHECKING"}
                if names and not ours:
                    self._names[node.module] |= names

    def text(self) -> str:
        """Return all of them, sorted as linters want it."""
        third = ("hud", "mcp")
        lines = [f"import {module}" for module in sorted(self._modules)]
        rest = sorted(self._names)
        lines += [self._line(module) for module in rest if module.partition(".")[0] not in third]
        lines += ["", *(self._line(module) for module in rest if module.partition(".")[0] in third)]
        return "\n".join(lines) + "\n"

    def _line(self, module: str) -> str:
        return f"from {module} import {', '.join(_sorted_names(self._names[module]))}"


def _sorted_names(names: Iterable[str]) -> list[str]:
    """Return names in the order of linters: constants, classes, the rest."""
    return sorted(names, key=lambda name: (0 if name.isupper() else 1 if name[0].isupper() else 2, name))
