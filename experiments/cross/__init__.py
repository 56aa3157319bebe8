"""Which training helps under which physics, with and without blocks: the three lines of work joined."""
