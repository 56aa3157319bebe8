"""The enumerated tables, those that ship with the package and larger ones."""
