"""Thin adapters to models and other libraries, one file each: the only part that holds a model. Each needs an extra."""
