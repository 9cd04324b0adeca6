"""A program in JavaScript in the place of this process: python -m tests.kafka.chaos.node_app FILE."""

import os
import shutil
import sys

if __name__ == "__main__":
    node = shutil.which("node") or sys.exit("node is not installed")
    os.execv(node, [node, *sys.argv[1:]])  # noqa: S606 - a shell would get the signals of the tests
