"""The tools that an agent gets over MCP."""
