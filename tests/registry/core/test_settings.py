"""Settings are read from the environment alone, each by its type."""

from pathlib import Path

import pytest

from registry.core.errors import SettingWrong
from registry.core.settings import Settings, from_environment


def test_variables_become_values_of_their_type() -> None:
    given = {"RADFLEET_HOME": "/there", "RADFLEET_HTTP_PORT": "8", "RADFLEET_LOG_JSON": "true", "HOME": "x"}
    assert from_environment(given) == Settings(home=Path("/there"), http_port=8, log_json=True)
    assert from_environment({}) == Settings()


def test_a_value_of_another_kind_is_refused_by_its_name_and_is_not_repeated() -> None:
    with pytest.raises(SettingWrong, match="RADFLEET_POSTGRES_PORT") as caught:
        from_environment({"RADFLEET_POSTGRES_PORT": "secret"})
    assert caught.value.code == "settings.wrong" and "secret" not in caught.value.lines()
