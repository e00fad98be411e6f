"""`python -m pillarbox` is `pillarbox`."""

from .cli import main

main()
