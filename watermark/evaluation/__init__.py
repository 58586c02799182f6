"""What marks and attacks do to media, measured."""
