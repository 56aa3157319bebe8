"""Evaluators of placements: by simulation, from a table, and with a ledger of requests."""
