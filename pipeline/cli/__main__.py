"""`python -m pipeline.cli`, as the command `truckscape`."""

from pipeline.cli import main

main()
