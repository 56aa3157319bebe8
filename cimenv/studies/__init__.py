"""Floor 6: studies: what makes results/."""
