"""Let tests run pytest through pytester."""

pytest_plugins = ["pytester"]
