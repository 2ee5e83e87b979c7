"""What can be known before anything runs: the plan of a file, and what stands in its way on this host."""
