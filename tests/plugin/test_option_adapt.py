"""--harbor-adapt=hud where no MCP library is installed; the rest is in tests/providers and tests/docker."""

# Stands for a virtual environment without the library: there is no test run that lacks it.
WITHOUT = "import sys\nsys.modules['mcp'] = None\n"


def test_an_agent_on_the_host_needs_the_library_before_anything_runs(project):
    project.task()
    project.file("conftest.py", WITHOUT)
    words = ["--harbor-dataset=tb2", "--harbor-adapt=hud", "--harbor-agent-command=true"]
    outcome = project.run(*words, "--harbor-agent-where=host", subprocess=True)
    assert outcome.ret == 4
    said = "--harbor-adapt=hud: an agent's MCP server needs the package mcp, which is not installed"
    assert f'ERROR: {said}; install it: pip install "pytest-harbor[hud]"' in str(outcome)
    # An agent in the environment needs nothing of it.
    assert "needs the package mcp" not in str(project.run(*words, subprocess=True))
