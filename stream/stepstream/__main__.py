"""Runs the command line: `python -m stepstream`, or `stepstream`."""

from stepstream.cli.registry import main

if __name__ == "__main__":
    main()
