"""`python -m pillarbox` is `pillarbox`."""

from .multicall import main

main()
