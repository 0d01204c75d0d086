"""What several commands share: options, recipes, paths, and how a command ends."""
