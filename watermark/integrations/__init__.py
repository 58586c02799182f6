"""Adapters to models and frameworks: the only part of the library that holds a model."""
