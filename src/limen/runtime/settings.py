"""Settings: one frozen dataclass per process, read once from a TOML file and ``LIMEN_*`` variables.

A field of a plain type is a key; a field whose type is a dataclass is a section. The variable of ``[database] dsn`` is
``LIMEN_DATABASE_DSN``; variables win over the file. Unknown keys and unknown ``LIMEN_*`` variables are errors,
because a misspelt setting that is silently ignored is a security setting that is off. Messages never repeat values.
"""

import dataclasses
import difflib
import tomllib
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from limen.kernel.errors import Malformed

PREFIX = "LIMEN_"

S = TypeVar("S")


class SettingsRefused(Malformed):
    """The settings cannot be used; ``key`` is the dotted name of the offending one, if there is one."""

    code = "settings-refused"

    def __init__(self, message: str, *, key: str = "", fix: str = "") -> None:
        super().__init__(message, fix=fix)
        self.key = key


def load_settings(
    kind: type[S],
    *,
    file: Path | None = None,
    environ: Mapping[str, str],
    foreign: frozenset[str] = frozenset(),
) -> S:
    """Read settings of the dataclass ``kind``; ``foreign`` names ``LIMEN_*`` variables that others read.

    Raises:
        SettingsRefused: the file cannot be read or parsed, a key is unknown or missing, a value has a wrong type.
    """
    known = dict(_keys(kind, ()))
    values = _from_file(file, known) if file is not None else {}
    values |= _from_environment(environ, known, foreign)
    return typing.cast(S, _build(kind, values, ()))


def variable(path: tuple[str, ...]) -> str:
    """The environment variable of a key, given as the names that lead to it."""
    return PREFIX + "_".join(path).upper()


_Path = tuple[str, ...]
_Values = dict[_Path, tuple[object, bool]]  # path -> value, whether it is text from the environment


def _keys(kind: type[Any], prefix: _Path) -> Iterator[tuple[_Path, Any]]:
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        path = (*prefix, field.name)
        if dataclasses.is_dataclass(hints[field.name]):
            yield from _keys(hints[field.name], path)
        else:
            yield path, hints[field.name]


def _from_file(file: Path, known: Mapping[_Path, Any]) -> _Values:
    try:
        tree = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as exc:
        raise SettingsRefused(
            f"the settings file {file} cannot be read: {exc.strerror}", fix="check its path and permissions"
        ) from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        where = str(exc).rpartition("(")[2].rstrip(")") if "(" in str(exc) else "not UTF-8"
        raise SettingsRefused(f"the settings file {file} is not valid TOML ({where})") from None
    return {path: (value, False) for path, value in _leaves(tree, (), known, file)}


def _leaves(
    tree: Mapping[str, Any], prefix: _Path, known: Mapping[_Path, Any], file: Path
) -> Iterator[tuple[_Path, Any]]:
    for name, value in tree.items():
        path = (*prefix, name)
        if path in known:
            yield path, value
        elif isinstance(value, dict) and any(key[: len(path)] == path for key in known):
            yield from _leaves(value, path, known, file)
        else:
            raise _unknown(".".join(path), [".".join(key) for key in known], f"in {file}")


def _from_environment(environ: Mapping[str, str], known: Mapping[_Path, Any], foreign: frozenset[str]) -> _Values:
    paths = {variable(path): path for path in known}
    found: _Values = {}
    for name, text in environ.items():
        if name in paths:
            found[paths[name]] = (text, True)
        elif name.startswith(PREFIX) and name not in foreign:
            raise _unknown(name, list(paths), "in the environment")
    return found


def _unknown(name: str, candidates: list[str], where: str) -> SettingsRefused:
    near = difflib.get_close_matches(name, candidates, n=1)
    fix = f"did you mean {near[0]}?" if near else "remove it; the known settings are: " + ", ".join(candidates)
    return SettingsRefused(f"unknown setting {name} {where}", key=name, fix=fix)


def _build(kind: type[Any], values: _Values, prefix: _Path) -> Any:
    hints = typing.get_type_hints(kind)
    arguments: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        path, hint = (*prefix, field.name), hints[field.name]
        if dataclasses.is_dataclass(hint):
            arguments[field.name] = _build(typing.cast(type[Any], hint), values, path)
        elif path in values:
            arguments[field.name] = _convert(*values[path], hint, path)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise SettingsRefused(
                f"the setting {'.'.join(path)} is missing",
                key=".".join(path),
                fix=f"put it into the settings file or set {variable(path)}",
            )
    try:
        return kind(**arguments)
    except ValueError as exc:
        # Raised by a dataclass's own __post_init__ rules, whose messages are written for the reader.
        raise SettingsRefused(str(exc), key=".".join(prefix)) from exc


def _convert(value: object, is_text: bool, hint: Any, path: _Path) -> Any:
    if is_text and typing.get_origin(hint) is tuple:
        value = [part.strip() for part in str(value).split(",") if part.strip()]
    try:
        return msgspec.convert(value, hint, strict=not is_text, dec_hook=_decode)
    except msgspec.ValidationError:
        name = ".".join(path)
        expected = hint.__name__ if isinstance(hint, type) else str(hint)
        raise SettingsRefused(f"the setting {name} must be: {expected}", key=name) from None


def _decode(kind: type[Any], value: Any) -> Any:
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise msgspec.ValidationError
