"""Searches and agents on enumerated tables: tuned alike, at equal budgets of distinct evaluations."""
