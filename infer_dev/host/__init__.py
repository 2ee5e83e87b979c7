"""Facts and acts on this host: processes, logs, GPUs, memory, ports, the runtime directory."""
