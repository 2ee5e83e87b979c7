"""Facts about the engine: where its binary is, what its failures look like."""
