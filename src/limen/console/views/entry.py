"""The way in: sign-in and one-time set-up. For people who are not signed in."""

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from limen.console.pages import SIGN_IN, Desk, render
from limen.control.identity.errors import LinkUsed
from limen.control.identity.model import Invitation, TokenPurpose


def routes(desk: Desk) -> list[Route]:
    """``/sign-in`` and ``/setup/{token}``."""

    async def sign_in(request: Request) -> Response:
        """The form; who is signed in goes to the overview."""
        if request.state.principal is not None:
            return RedirectResponse("/", 303)
        return render(request, "sign-in.html", ended="ended" in request.query_params)

    async def set_up(request: Request) -> Response:
        """The form of a one-time link, whose use needs the form to be sent: opening the page uses nothing up."""
        token = request.path_params["token"]
        try:
            invitation = await desk.identity.passwords.purpose_of(token)
            await _check_host(desk, request, invitation)
        except LinkUsed as exc:
            return render(request, "error.html", status=exc.status, message=exc.message, fix=exc.fix, incident="")
        return render(
            request,
            "set-up.html",
            token=token,
            owner=invitation.purpose is TokenPurpose.OWNER_SETUP,
            reset=invitation.purpose is TokenPurpose.PASSWORD_RESET,
        )

    return [
        Route(SIGN_IN, sign_in, methods=["GET"]),
        Route("/setup/{token}", set_up, methods=["GET"]),
    ]


async def _check_host(desk: Desk, request: Request, invitation: Invitation) -> None:
    """A link opened at another tenant's host would set up an account that cannot be used there."""
    slug = request.state.tenant_slug
    if slug is not None and await desk.tenancy.find_tenant_id(slug) != invitation.tenant_id:
        raise LinkUsed
