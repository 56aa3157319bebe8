"""The worst case: attacks, recipes, percentiles, certificates, blocks."""
