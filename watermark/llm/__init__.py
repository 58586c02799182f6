"""Marks in the tokens of language models, written while they are chosen."""
