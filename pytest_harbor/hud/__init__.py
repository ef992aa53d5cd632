"""Support for HUD: convert datasets to its format, and serve an environment's tools over MCP as it does."""
