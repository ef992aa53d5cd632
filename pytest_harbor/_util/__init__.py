"""Helpers that every package may use: text, files, logs, processes, sizes and run ids."""
