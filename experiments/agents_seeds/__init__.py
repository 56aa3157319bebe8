"""The four algorithms on the default task, several seeds each."""
