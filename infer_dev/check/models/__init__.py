"""The model files that an instance names."""
