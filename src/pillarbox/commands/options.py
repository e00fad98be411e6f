"""Options that all commands share."""

from __future__ import annotations

import os
from typing import Annotated

from cyclopts import Parameter

from ..home import Home, default_folder

HomeOption = Annotated[
    str,
    Parameter(
        "--home",
        metavar="DIR",
        help="The server's folder; default $PILLARBOX_HOME, else your data directory.",
        show_default=False,
    ),
]
JsonOption = Annotated[
    bool, Parameter("--json", negative=(), show_default=False, help="For programs: one JSON object.")
]


def home_of(folder: str) -> Home:
    """The home that the option names, or the default one."""
    return Home(os.path.abspath(folder or default_folder()))
