"""What a problem trains: one function a stage, with its key beside it."""
