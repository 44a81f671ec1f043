"""What the demo measured: printed as it goes, and written as JSON at the end."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

REQUIRED = {
    "tunnel": ("bytes", "sha256_ok", "denied_ok", "mbit_s"),
    "sftp": ("put_ok", "get_ok", "rename_ok", "jail_ok", "bucket_ok"),
    "vault": ("bao_ok", "hvac_ok"),
    "revocation": ("tunnel_ms", "sftp_ms", "vault_ms", "console_ms", "other_tenant_untouched", "reconnected_ok"),
    "audit": ("records", "verified", "tamper_detected"),
}


class Report:
    """Values by section. ``ok`` only when every required value is there and no check failed."""

    def __init__(self) -> None:
        self._values: dict[str, dict[str, Any]] = {section: {} for section in REQUIRED}
        self._steps: list[dict[str, Any]] = []

    def set(self, section: str, name: str, value: Any) -> None:
        """Note one measured value."""
        self._values[section][name] = value

    @property
    def ok(self) -> bool:
        """Whether all of it holds."""
        found = [self._values[section].get(name) for section, names in REQUIRED.items() for name in names]
        return all(value is not None and value is not False for value in found)

    def as_dict(self) -> dict[str, Any]:
        """The JSON object."""
        return {"ok": self.ok, **self._values, "steps": self._steps}

    def write(self, file: Path) -> None:
        """Write the JSON object."""
        file.write_text(json.dumps(self.as_dict(), indent=2) + "\n", encoding="utf-8")

    @contextmanager
    def step(self, words: str) -> Iterator[None]:
        """One step: say what it is, then how long it took."""
        print(f"• {words}", flush=True)
        started = time.monotonic()
        try:
            yield
        except BaseException:
            print(f"  failed after {time.monotonic() - started:.1f} s", flush=True)
            raise
        seconds = time.monotonic() - started
        self._steps.append({"step": words, "seconds": round(seconds, 3)})
        print(f"  done in {seconds:.1f} s", flush=True)

    def say(self, words: str) -> None:
        """A line about what was found."""
        print(f"  {words}", flush=True)
