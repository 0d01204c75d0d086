"""What a service showed and what was taken of it, read back beside the log."""
