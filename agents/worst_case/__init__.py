"""The study of the worst case: attacks, recipes, percentiles, certificates, blocks."""
