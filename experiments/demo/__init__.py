"""The demonstration: everything trained afresh, an agent places blocks, searches compete."""
