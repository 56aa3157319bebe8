"""Searches and agents on enumerated tables: at equal budgets of distinct evaluations."""
