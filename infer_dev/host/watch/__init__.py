"""What the daemon tells those who watch it, boot and systemd."""
