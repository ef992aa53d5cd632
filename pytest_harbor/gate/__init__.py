"""Verdicts on runs: pure functions from rewards to what a continuous integration should believe."""
