"""Tar archives, in and out of environments: pack what goes in, unpack what comes out, and trust nothing in it."""
