"""The TOML file of instances: read, checked, merged. `load` is the only module here that touches a file."""
