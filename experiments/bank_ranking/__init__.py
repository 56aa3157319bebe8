"""Whether the shared bank ranks placements as fits of their own do."""
