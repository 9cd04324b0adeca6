"""Run the command: python -m stepstream."""

from stepstream.cli import main

main()
