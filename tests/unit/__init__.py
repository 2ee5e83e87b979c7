"""Tables, properties and a fake clock: no processes, no sleeps."""
