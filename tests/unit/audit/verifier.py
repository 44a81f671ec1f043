"""The stand-alone verifier, loaded as a module from its one file, for tests that need its functions."""

import functools
import importlib.util
import io
import json
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

PATH = Path(__file__).parents[3] / "verifier" / "limen-audit-verify"


def _load() -> ModuleType:
    loader = SourceFileLoader("limen_audit_verify", str(PATH))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[loader.name] = module  # dataclasses and NamedTuples look their module up
    loader.exec_module(module)
    return module


verify = _load()


@functools.cache
def public_key(raw: bytes) -> Any:
    """A key with its tables, which take some time to make."""
    return verify.PublicKey(raw)


def check(
    export: bytes, key: bytes, tmp_path: Path, *, trusted: Any = None, outside: bytes | None = None
) -> dict[str, Any]:
    """Verify an export in memory; ``trusted`` is an object to keep, ``outside`` the text of the checkpoint file."""
    paths: list[str | None] = [None, None]
    if trusted is not None:
        (tmp_path / "kept.json").write_text(json.dumps(trusted))
        paths[0] = str(tmp_path / "kept.json")
    if outside is not None:
        (tmp_path / "checkpoints.jsonl").write_bytes(outside)
        paths[1] = str(tmp_path / "checkpoints.jsonl")
    known = public_key(key)
    verifier = verify.Verifier({known.id: known})
    verifier.run(io.BytesIO(export), *paths)
    result: dict[str, Any] = verifier.report()
    return result
