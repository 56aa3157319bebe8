"""What makes results/: one folder an experiment, run by `python -m experiments.NAME`."""
