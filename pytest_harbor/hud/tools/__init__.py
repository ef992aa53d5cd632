"""The tools that agents use over MCP: bash, edit, read, grep, glob and list."""

from pytest_harbor.hud.tools.shell import OutputBuffer, Shell, ShellResult
from pytest_harbor.hud.tools.text import ToolError
from pytest_harbor.hud.tools.tools import Tools

__all__ = ["OutputBuffer", "Shell", "ShellResult", "ToolError", "Tools"]
