"""What shall run: pure functions from a configuration to exact command lines, and from two plans to changes."""
