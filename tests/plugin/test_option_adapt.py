"""--harbor-adapt=hud without an MCP library; tests/providers and tests/docker cover the rest."""

# Simulates an environment without the library, which every test run has.
WITHOUT = "import sys\nsys.modules['mcp'] = None\n"


def test_host_agent_needs_the_mcp_library(project):
    project.task()
    project.file("conftest.py", WITHOUT)
    words = ["--harbor-dataset=tb2", "--harbor-adapt=hud", "--harbor-agent-command=true"]
    outcome = project.run(*words, "--harbor-agent-where=host", subprocess=True)
    assert outcome.ret == 4
    fact = "--harbor-adapt=hud: an agent's MCP server requires the package mcp, which is not installed"
    assert f'ERROR: {fact}; install it: pip install "mcp<3"' in str(outcome)
    # An agent in the environment does not need it.
    assert "requires the package mcp" not in str(project.run(*words, subprocess=True))
