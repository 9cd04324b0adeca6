"""Run the command: python -m stepstream, or stepstream."""

import os

try:
    from stepstream.cli.main import main
except KeyboardInterrupt:
    # It takes a second or two to import all this; whoever ends it then is not helped by where it was.
    os._exit(130)

if __name__ == "__main__":
    main()
