"""A drawn world: a seeded artist for characters, class folders and scenes with masks."""
