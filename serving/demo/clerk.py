"""A resident process that runs commands of the real command line, each in a fork of its own.

A command as a new process spends most of its time on imports, and the demo asks several a second while networks load.
In: a line of JSON a command, [arguments, file for standard output, file for standard error]. Out: its exit code.
"""

import json
import os
import sys
from typing import Final

# What nearly every command imports; no threads begin here, so a fork is safe.
_USUAL: Final = (
    "registry.accounts",
    "registry.clinics",
    "registry.core.db",
    "registry.core.settings",
    "registry.verbs",
)


def main() -> int:
    """Serve until standard input ends."""
    from importlib import import_module

    from registry.cli import build, tree

    tree(build)
    for name in _USUAL:
        import_module(name)
    for line in sys.stdin:
        arguments, out, err = json.loads(line)
        child = os.fork()
        if child == 0:
            _command(arguments, out, err)
        _, status = os.waitpid(child, 0)
        os.write(1, f"{os.waitstatus_to_exitcode(status)}\n".encode())
    return 0


def _command(arguments: list[str], out: str, err: str) -> None:
    """The forked side: never returns, whatever happens."""
    code = 70
    try:
        for number, path in ((0, os.devnull), (1, out), (2, err)):
            os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), number)
        from registry.cli import main as command

        code = command(arguments)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
