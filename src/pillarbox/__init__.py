"""Pillarbox: a mail host whose passwords never travel in the clear."""

__version__ = "0.1.0"
