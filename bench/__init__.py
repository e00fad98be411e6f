"""Pillarbox beside the C servers people use: `python -m bench` measures, and writes docs/performance.md."""
