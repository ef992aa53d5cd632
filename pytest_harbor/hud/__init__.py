"""HUD's converted format: write it, read it, and serve an environment over MCP as it does."""
