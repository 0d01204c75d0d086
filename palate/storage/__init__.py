"""Storage: files and folders that are written whole or not at all, and read without trusting what they hold."""
