"""The same chip in two simulators."""
