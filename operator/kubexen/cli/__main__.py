"""`python -m kubexen.cli`, where the console script is not installed."""

from kubexen.cli.main import main

main()
