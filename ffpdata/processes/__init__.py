"""Processes that others start: a supervised child process, and the Ray cluster."""
