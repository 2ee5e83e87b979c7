"""What infer-dev costs, measured beside named peers in the same run."""
