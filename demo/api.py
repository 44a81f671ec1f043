"""The demo's own small client of Limen's HTTP API; errors are raised with the server's own words."""

import ssl
from pathlib import Path
from typing import Any

import httpx


class ApiError(RuntimeError):
    """The server refused; ``status`` is the HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class Api:
    """Calls as one signed-in person or operator."""

    def __init__(self, url: str, ca_file: Path, token: str = "") -> None:
        self.url = url
        self._ca_file = ca_file
        self.token = token
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._client = httpx.Client(
            base_url=f"{url}/api/v1",
            verify=ssl.create_default_context(cafile=str(ca_file)),
            headers=headers,
            timeout=30,
        )

    def as_bearer(self, token: str) -> "Api":
        """The same server with another credential."""
        return Api(self.url, self._ca_file, token)

    def get(self, path: str, **query: Any) -> Any:
        """GET, decoded."""
        return self._answer(self._client.get(path, params=query))

    def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """POST, decoded; None for an empty answer."""
        return self._answer(self._client.post(path, json=body) if body is not None else self._client.post(path))

    def put(self, path: str, body: dict[str, Any]) -> Any:
        """PUT, decoded."""
        return self._answer(self._client.put(path, json=body))

    def delete(self, path: str) -> Any:
        """DELETE; None for an empty answer."""
        return self._answer(self._client.delete(path))

    def download(self, path: str, file: Path) -> None:
        """GET into a file."""
        with self._client.stream("GET", path) as answer, file.open("wb") as out:
            if answer.status_code != httpx.codes.OK:
                answer.read()
                self._answer(answer)
            for block in answer.iter_bytes():
                out.write(block)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _answer(self, answer: httpx.Response) -> Any:
        if answer.is_success:
            return answer.json() if answer.content else None
        try:
            problem = answer.json()
            words = " ".join(part for part in (problem.get("detail", ""), problem.get("fix", "")) if part)
        except ValueError:
            words = answer.text[:200]
        raise ApiError(answer.status_code, words)
