"""Settings from TOML and LIMEN_* variables: strict about names and types, silent about values."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limen.runtime.settings import SettingsRefused, load_settings


@dataclass(frozen=True)
class Listen:
    host: str = "127.0.0.1"
    port: int = 8443


@dataclass(frozen=True)
class Settings:
    data: Path
    debug: bool = False
    ratio: float = 0.5
    names: tuple[str, ...] = ()
    dsn: str | None = None
    listen: Listen = field(default_factory=Listen)

    def __post_init__(self) -> None:
        if not 0 <= self.ratio <= 1:
            raise ValueError("ratio lies between 0 and 1")


def write(path: Path, text: str) -> Path:
    file = path / "limen.toml"
    file.write_text(text)
    return file


def test_file_then_environment(tmp_path: Path) -> None:
    file = write(tmp_path, 'data = "/srv"\nnames = ["a"]\n[listen]\nport = 1\nhost = "::1"\n')
    environ = {"LIMEN_LISTEN_PORT": "9", "LIMEN_DEBUG": "true", "LIMEN_NAMES": "x, y", "LIMEN_RATIO": "1", "PATH": "/"}
    assert load_settings(Settings, file=file, environ=environ) == Settings(
        Path("/srv"), True, 1.0, ("x", "y"), None, Listen("::1", 9)
    )


def test_defaults_and_a_missing_value() -> None:
    assert load_settings(Settings, environ={"LIMEN_DATA": "/x"}) == Settings(Path("/x"))
    with pytest.raises(SettingsRefused, match="data is missing") as refused:
        load_settings(Settings, environ={})
    assert "LIMEN_DATA" in refused.value.fix


@pytest.mark.parametrize(
    ("text", "environ", "key", "fix"),
    [
        ('data = "/x"\nlisen = 1', {}, "lisen", "listen"),
        ('data = "/x"\n[listen]\nprot = 1', {}, "listen.prot", "did you mean listen.port?"),
        ('data = "/x"\n[other]\na = 1', {}, "other", "remove it"),
        ('data = "/x"', {"LIMEN_LISTEN_PROT": "1"}, "LIMEN_LISTEN_PROT", "did you mean LIMEN_LISTEN_PORT?"),
    ],
)
def test_unknown_names_are_errors(tmp_path: Path, text: str, environ: dict[str, str], key: str, fix: str) -> None:
    with pytest.raises(SettingsRefused) as refused:
        load_settings(Settings, file=write(tmp_path, text), environ=environ)
    assert refused.value.key == key
    assert fix in refused.value.fix


def test_variables_of_others_can_be_named() -> None:
    environ = {"LIMEN_DATA": "/x", "LIMEN_TOKEN": "t"}
    assert load_settings(Settings, environ=environ, foreign=frozenset({"LIMEN_TOKEN"})).data == Path("/x")
    with pytest.raises(SettingsRefused):
        load_settings(Settings, environ=environ)


@pytest.mark.parametrize("text", ['data = "/x"\ndebug = "hunter2"', 'data = "/x"\n[listen]\nport = "hunter2"'])
def test_a_wrong_type_names_the_key_and_not_the_value(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsRefused) as refused:
        load_settings(Settings, file=write(tmp_path, text), environ={})
    assert refused.value.key in ("debug", "listen.port")
    assert "hunter2" not in f"{refused.value!r} {refused.value.__cause__!r}"


def test_rules_of_the_dataclass_are_reported(tmp_path: Path) -> None:
    with pytest.raises(SettingsRefused, match="between 0 and 1"):
        load_settings(Settings, environ={"LIMEN_DATA": "/x", "LIMEN_RATIO": "7"})


def test_a_broken_or_absent_file_is_explained(tmp_path: Path) -> None:
    with pytest.raises(SettingsRefused, match="cannot be read"):
        load_settings(Settings, file=tmp_path / "absent.toml", environ={})
    with pytest.raises(SettingsRefused, match=r"not valid TOML \(at end of document\)") as refused:
        load_settings(Settings, file=write(tmp_path, 'data = "/x"\ndsn = "hunter2'), environ={})
    assert "hunter2" not in refused.value.message


@given(st.dictionaries(st.text(min_size=1, max_size=12), st.text(max_size=20), max_size=5))
def test_any_environment_gives_settings_or_one_error_type(extra: dict[str, str]) -> None:
    environ = {"LIMEN_DATA": "/x"} | {f"LIMEN_{name}": value for name, value in extra.items()}
    try:
        settings = load_settings(Settings, environ=environ)
    except SettingsRefused:
        return
    assert settings.data == Path(environ["LIMEN_DATA"])
