"""The runtime directory: made for one user, locked by one daemon, with the notes that boot leaves."""
