"""Enumerations as files: every feasible placement of a task, a row each."""
