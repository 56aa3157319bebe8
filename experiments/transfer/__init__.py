"""A placement policy trained on many tasks, used on unseen ones with no or few evaluations."""
