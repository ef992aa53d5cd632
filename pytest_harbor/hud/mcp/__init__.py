"""The MCP server of a trial, for agents on the host."""
