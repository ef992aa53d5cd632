"""Tests of the plugin drive pytest itself."""

pytest_plugins = ["pytester"]
