"""The rules in pytest_harbor/environment/namespace/README.md."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import pytest_harbor
from pytest_harbor.environment.namespace import launcher

PACKAGE = Path(pytest_harbor.__file__).parent
BOUNDARY = PACKAGE / "environment" / "namespace"
NAMESPACE = "pytest_harbor.environment.namespace"
# What sandboxes load must be quick to import.
HEAVY = {"dataclasses", "inspect", "pathlib", "typing"}


def imports(path: Path) -> set[str]:
    """Return what a module imports, as `module` or `module.name`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_other_packages_import_only_the_provider():
    others = [path for path in PACKAGE.rglob("*.py") if BOUNDARY not in path.parents]
    used = {name for path in others for name in imports(path) if name.startswith(NAMESPACE)}
    assert used == {f"{NAMESPACE}.NamespaceProvider"}


@pytest.mark.parametrize("path", sorted((BOUNDARY / "inside").glob("*.py")), ids=lambda path: path.stem)
def test_inside_imports_only_itself_and_users(path):
    ours = {name for name in imports(path) if name.startswith("pytest_harbor")}
    assert all(name.startswith((f"{NAMESPACE}.inside.", "pytest_harbor._util.users.")) for name in ours)


def test_sandboxes_load_no_heavy_modules():
    code = launcher.BOOTSTRAP.replace("\nmain()\n", "\nprint(*sys.modules)\n")
    command = [sys.executable, "-I", "-S", "-c", code, "0", str(PACKAGE.parent)]
    loaded = set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    assert f"{NAMESPACE}.inside.init" in loaded
    assert not loaded & HEAVY


def test_readme_lists_every_file():
    text = (BOUNDARY / "README.md").read_text(encoding="utf-8")
    files = {path.relative_to(BOUNDARY).as_posix() for path in BOUNDARY.rglob("*.py") if path.name != "__init__.py"}
    assert not sorted(file for file in files if f"`{file}`" not in text)
