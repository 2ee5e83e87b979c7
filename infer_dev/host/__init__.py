"""Facts and acts on this host: processes, ports, log files, the runtime directory."""
