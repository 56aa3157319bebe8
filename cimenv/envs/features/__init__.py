"""The features of observations: one row each."""
