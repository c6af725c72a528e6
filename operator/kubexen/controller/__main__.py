"""`python -m kubexen.controller`."""

from kubexen.controller.main import main

main()
