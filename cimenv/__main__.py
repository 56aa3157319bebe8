"""`python -m cimenv`."""

from cimenv.cli import main

main()
