"""The same chips, timed in two simulators."""
