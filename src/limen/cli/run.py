"""What a command gets to work with: where results go, whom to ask, and the server it speaks to.

The environment wins over the profile: ``LIMEN_SERVER``, ``LIMEN_TOKEN``, ``LIMEN_CA`` (a file), ``LIMEN_PROFILE``. The
profile's session and authority belong to the profile's server and are never used with another one.
"""

import json
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from limen.cli.api import Api, Target, server_url
from limen.cli.asking import Asker, Terminal
from limen.cli.errors import CliError
from limen.cli.names import Names
from limen.cli.profiles import DEFAULT_PROFILE, Profile, Profiles
from limen.kernel.errors import LimenError
from limen.runtime.tls import client_context


class Output:
    """Results on standard output, as words or as JSON; remarks on standard error, and none with JSON."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json

    def result(self, data: object, words: str) -> None:
        """What was asked for: ``data`` is the API's own answer, ``words`` the same for people."""
        print(json.dumps(data, indent=2) if self.as_json else words)

    def shown_once(self, data: object, secret: str, *remarks: str) -> None:
        """A secret alone on standard output, so that it can be piped; what to do with it on standard error."""
        self.result(data, secret)
        for remark in remarks:
            self.note(remark)

    def note(self, remark: str) -> None:
        """A remark for a person."""
        if not self.as_json:
            print(remark, file=sys.stderr)


class Run:
    """One run of one command."""

    def __init__(
        self,
        environ: Mapping[str, str],
        *,
        as_json: bool = False,
        profile: str = "",
        asker: Asker | None = None,
    ) -> None:
        self.environ = environ
        self.out = Output(as_json=as_json)
        self.asker: Asker = asker or Terminal()
        self.profiles = Profiles.of(environ)
        self.profile_name = profile or environ.get("LIMEN_PROFILE", "") or DEFAULT_PROFILE
        self._open = ExitStack()
        self._api: Api | None = None
        self._names: Names | None = None

    def close(self) -> None:
        """Close connections."""
        self._open.close()

    @property
    def profile(self) -> Profile | None:
        """The profile in use, if it exists."""
        return self.profiles.load(self.profile_name)

    @property
    def api(self) -> Api:
        """The server, as the signed-in person.

        Raises:
            CliError: when nobody is signed in here.
        """
        if self._api is None:
            target = self.target()
            if not target.token:
                raise CliError(f"you are not signed in to {target.server}", fix=f"sign in: {self.sign_in_command()}")
            self._api = self.connect(target)
        return self._api

    @property
    def names(self) -> Names:
        """Names to ids."""
        if self._names is None:
            api = self.api
            self._names = Names(api.get)
        return self._names

    def connect(self, target: Target) -> Api:
        """An API that is closed at the end of the run."""
        return self._open.enter_context(Api(target))

    def target(self, server: str = "", authority_file: Path | None = None) -> Target:
        """Where to and as whom; ``server`` and ``authority_file`` are options of the command, which win over all.

        Raises:
            CliError: when there is no server to speak to.
        """
        profile = self.profile
        chosen = server or self.environ.get("LIMEN_SERVER", "")
        url = server_url(chosen) if chosen else profile.server if profile else ""
        if not url:
            raise CliError("there is no server to speak to", fix=f"sign in first: {self.sign_in_command()}")
        own = profile if profile is not None and profile.server == url else None
        authority = self._authority(authority_file)
        if authority is None and own is not None and own.authority:
            authority = own.authority.encode()
        token = header_safe(self.environ.get("LIMEN_TOKEN", "").strip(), "LIMEN_TOKEN")
        return Target(url, authority, token or (own.token if own else ""))

    def operator(self, token_file: Path | None, server: str, authority_file: Path | None) -> Api:
        """The server, as a platform operator.

        Raises:
            CliError: when there is no operator's token.
        """
        token = self.environ.get("LIMEN_OPERATOR_TOKEN", "").strip()
        if token_file is not None:
            token = read_file(token_file, "the operator's token").decode("utf-8", "replace").strip()
        if not token:
            fix = "give --operator-token-file (limen up writes operator.token into its data directory)"
            raise CliError("this takes an operator's token", fix=fix)
        target = self.target(server, authority_file)
        return self.connect(Target(target.server, target.authority, header_safe(token, "the operator's token")))

    def sign_in_command(self) -> str:
        """What to type to sign in with this profile."""
        option = "" if self.profile_name == DEFAULT_PROFILE else f" --profile {self.profile_name}"
        known = self.profile
        return f"limen login{option}" if known and known.tenant else f"limen login{option} --server URL --tenant SLUG"

    def _authority(self, file: Path | None) -> bytes | None:
        chosen = file or (Path(self.environ["LIMEN_CA"]) if self.environ.get("LIMEN_CA") else None)
        return read_authority(chosen) if chosen is not None else None


def header_safe(token: str, what: str) -> str:
    """``token`` if it can be sent at all.

    Raises:
        CliError: otherwise.
    """
    if not token.isascii() or not all(character.isprintable() and character != " " for character in token):
        raise CliError(f"{what} is not a token", fix="copy it whole, and nothing else")
    return token


def read_authority(file: Path) -> bytes:
    """The PEM certificates in ``file``.

    Raises:
        CliError: when there are none.
    """
    pem = read_file(file, "the authority's certificate")
    try:
        client_context(pem)
    except LimenError:
        raise CliError(f"{file} holds no PEM certificate", fix="give the server's ca.pem") from None
    return pem


def read_file(file: Path, what: str, *, most: int = 1 << 20) -> bytes:
    """What ``file`` holds, up to ``most`` bytes; ``-`` is standard input.

    Raises:
        CliError: when it cannot be read.
    """
    try:
        if str(file) == "-":
            return sys.stdin.buffer.read(most)
        with file.open("rb") as opened:
            return opened.read(most)
    except OSError as exc:
        raise CliError(
            f"cannot read {what} from {file}: {exc.strerror}", fix="check the path and who may read it"
        ) from exc


def removed(run: Run, what: str, item_id: str, words: str) -> None:
    """Report what is gone, ended or revoked."""
    data: dict[str, Any] = {what: item_id}
    run.out.result(data, words)
