"""Secret files of one installation: mode 0600, made once, atomically, and never replaced."""

import os
import secrets as random
import threading
from contextlib import suppress

from registry.core.settings import Settings


def ensure(settings: Settings, name: str, nbytes: int = 32) -> str:
    """The text of a secret; ``nbytes`` random bytes in hex are written where the file does not exist yet.

    Two processes that ask at one moment get the same text: the link of the finished file succeeds once.
    """
    path = settings.secrets_dir / name
    if not path.exists():
        settings.secrets_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = path.with_name(f".{name}.{os.getpid()}.{threading.get_ident()}")
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(fd, "w") as file:
            file.write(random.token_hex(nbytes))
            file.flush()
            os.fsync(file.fileno())
        # A link, not a rename: a rename would replace the secret that another process just wrote and used.
        with suppress(FileExistsError):
            os.link(fresh, path)
        fresh.unlink()
        folder = os.open(settings.secrets_dir, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    return path.read_text().strip()
