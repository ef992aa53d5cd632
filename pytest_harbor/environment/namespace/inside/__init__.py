"""The code that runs in the processes of an environment, fully loaded before they give up the host's file system.

Every environment pays for its start-up time, so it imports little of the standard library: no dataclasses, no
pathlib, and typing only for type checkers.
"""
