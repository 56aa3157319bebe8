"""Scripts that train and judge agents; not installed."""
