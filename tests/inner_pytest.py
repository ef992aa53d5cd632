"""Options for the pytest processes that tests start."""

# Importing these plugins takes half of such a process's time.
FEWER_PLUGINS = ("-p", "no:anyio", "-p", "no:hypothesispytest")
