"""Every promised speed."""
