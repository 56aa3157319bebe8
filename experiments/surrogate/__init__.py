"""Whether the learned surrogate ranks placements that it has not seen."""
