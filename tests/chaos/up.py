"""``radfleet up`` as it is, but a part that ran for five seconds counts as healthy.

The product waits up to 30 s before it starts a part again that died six times within a minute of its start; two
hundred kills in a few minutes would only measure that wait.
"""

import sys

from registry import watch
from registry.cli import main

HEALTHY_S = 5.0

if __name__ == "__main__":
    watch.HEALTHY_S = HEALTHY_S
    sys.exit(main(["up"]))
