"""Floor 0: errors, configuration, seeding, progress and the store."""
