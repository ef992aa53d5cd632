"""Options for the pytest processes that tests start."""

# Importing these plugins takes half of such a process's time.
FEWER_PLUGINS = ("-p", "no:anyio", "-p", "no:hypothesispytest")

# Plugins that run tests more than once, which test_reruns.py turns on.
RERUNS = ("rerunfailures", "flaky", "repeat", "pytest-retry", "flakefinder")
NO_RERUNS = tuple(word for name in RERUNS for word in ("-p", f"no:{name}"))
