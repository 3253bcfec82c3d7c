"""Deployment facts, read once from the environment (prefix RADFLEET_) and never from a file in the tree.

Clinical policy is not here: it lives in rows with an author and a reason.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

from registry.core.errors import SettingWrong

PREFIX = "RADFLEET_"


@dataclass(frozen=True, slots=True)
class Limits:
    """Every limit has a name and stands here, so that a reader can find and question it."""

    instance_bytes_max: int = 1 << 30
    request_bytes_max: int = 4 << 30
    request_parts_max: int = 10_000
    part_header_bytes_max: int = 8_192
    mask_bytes_max: int = 64 << 20
    archive_entries_max: int = 20_000
    archive_ratio_max: int = 100
    associations_max: int = 32
    claims_max: int = 3
    clinic_in_flight_max: int = 2
    lease_s: int = 60
    page_rows: int = 200
    history_rows: int = 10_000
    disk_free_bytes_min: int = 2 << 30
    delivery_hours_max: int = 72


LIMITS = Limits()


@dataclass(frozen=True)
class Settings:
    """Where the parts of one installation live and listen."""

    home: Path = Path(".radfleet")
    bind: str = "127.0.0.1"
    postgres_port: int = 15433
    mlflow_port: int = 15500
    ray_port: int = 16379
    dicom_port: int = 11112
    http_port: int = 18080
    web_port: int = 18090
    metrics_port: int = 18091
    # Empty: the embedded PostgreSQL, MLflow and Ray of `radfleet up`. Set: an outside one.
    database_url: str = ""
    mlflow_url: str = ""
    ray_address: str = ""
    # Told of every change of a flag; empty: nobody is.
    webhook_url: str = ""
    # The same by e-mail: smtp://HOST:PORT (loopback or VPN only), smtp+starttls:// or smtps://, with USER@ where the
    # server asks for one, whose password is the secret file smtp-password. MAIL_TO: addresses, comma between them.
    mail_server: str = ""
    mail_from: str = ""
    mail_to: str = ""
    # Where the pages fetch pictures; empty: the HTTP door of this machine.
    door_url: str = ""
    # Where `radfleet dashboard sync` pushes to; its token is the secret file grafana-token.
    grafana_url: str = ""
    threads: int = 2
    workers: int = 1
    lease_s: float = LIMITS.lease_s
    log_level: str = "info"
    log_json: bool = False
    data: Path | None = None

    @property
    def root(self) -> Path:
        """The one directory that holds all state of this installation, absolute."""
        return self.home.expanduser().absolute()

    @property
    def store_dir(self) -> Path:
        """Received instances and results, one folder a clinic."""
        return self.root / "store"

    @property
    def work_dir(self) -> Path:
        """Scratch of running attempts; may be emptied when nothing runs."""
        return self.root / "work"

    @property
    def cache_dir(self) -> Path:
        """Verified packages of this node, one folder a digest."""
        return self.root / "packages"

    @property
    def secrets_dir(self) -> Path:
        """Files of mode 0600: database passwords, Ray token, identity key."""
        return self.root / "secrets"

    @property
    def log_dir(self) -> Path:
        """One log file a supervised part."""
        return self.root / "logs"

    def secret(self, name: str) -> str:
        """The text of one secret file, or an empty string where it does not exist yet."""
        path = self.secrets_dir / name
        return path.read_text().strip() if path.exists() else ""

    def dsn(self, role: str, database: str = "radfleet") -> str:
        """libpq connection string for one login role; the password stays in its file (mode 0600)."""
        if self.database_url:
            return f"{self.database_url.format(role=role, database=database)}"
        return (
            f"host=127.0.0.1 port={self.postgres_port} dbname={database} user={role} "
            f"password={self.secret('db-' + role)} connect_timeout=5"
        )

    def channels(self) -> tuple[str, ...]:
        """The ways by which changes of flags are told to the outside: webhook, email, both or none."""
        mail = self.mail_server and self.mail_from and self.mail_to
        return (*(("webhook",) if self.webhook_url else ()), *(("email",) if mail else ()))

    def mlflow_uri(self) -> str:
        """Tracking and registry URI."""
        return self.mlflow_url or f"http://127.0.0.1:{self.mlflow_port}"


def from_environment(environment: Mapping[str, str]) -> Settings:
    """The settings that RADFLEET_* variables give, defaults for the others.

    Raises SettingWrong for a value that is not of its field's type.
    """
    # Late: pydantic takes a fifth of a second, and help needs no setting.
    from pydantic import TypeAdapter, ValidationError

    given = {field.name: environment.get(PREFIX + field.name.upper()) for field in fields(Settings)}
    try:
        return TypeAdapter(Settings).validate_python({k: v for k, v in given.items() if v is not None})
    except ValidationError as error:
        wrong = error.errors(include_input=False, include_url=False)[0]
        raise SettingWrong(f"{PREFIX}{str(wrong['loc'][0]).upper()}: {wrong['msg']}") from None


@cache
def settings() -> Settings:
    """The settings of this process."""
    return from_environment(os.environ)
