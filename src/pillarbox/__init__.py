"""Pillarbox: a mail host whose passwords need not travel."""

__version__ = "0.1.0"
