"""Marks for finished images."""
