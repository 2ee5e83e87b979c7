"""What llama-server will allocate, told from a model's header and the options. docs/memory.md has the method."""
