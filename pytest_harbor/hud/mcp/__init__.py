"""The MCP server of a trial, for agents that run on the host."""

from pytest_harbor.hud.mcp.sdk import check_installed
from pytest_harbor.hud.mcp.service import McpService

__all__ = ["McpService", "check_installed"]
