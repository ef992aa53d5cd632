"""Tar archives: `pack` what goes into an environment, `unpack` what comes out of it, and trust nothing in that."""
