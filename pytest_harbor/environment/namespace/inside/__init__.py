"""What runs in an environment's own processes: the standard library only, all of it loaded before the host is gone.

Each environment starts an interpreter for it, so it loads little: no dataclasses, and typing for type checkers only.
"""
