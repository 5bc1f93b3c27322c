"""Groups of commands, each mounted by one line of ops.cli."""
