"""Marks in the initial noise of diffusion models."""
