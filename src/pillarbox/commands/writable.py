"""Whether what a command is about to make can be made there at all: asked before anything is begun."""

from __future__ import annotations

import os

from ..terms import Refused


def must_be_writable(folder: str) -> None:
    """That folder, or the nearest one above it that is there. Raises Refused."""
    while not os.path.lexists(folder) and folder != os.path.dirname(folder):
        folder = os.path.dirname(folder)
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
        remedy = ": run this as root" if os.geteuid() else ""
        raise Refused(f"{folder} can't be written{remedy}")
