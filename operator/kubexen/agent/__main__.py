"""`python -m kubexen.agent`."""

from kubexen.agent.main import main

main()
