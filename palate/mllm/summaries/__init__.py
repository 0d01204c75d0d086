"""What a model wrote of items and of users' preferences, kept so that nothing is asked for twice."""
