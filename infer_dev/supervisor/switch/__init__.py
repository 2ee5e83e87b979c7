"""One instance in the place of another: asked for, proven, and undone if it fails. A room above the supervisor."""
