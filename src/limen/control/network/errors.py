"""Errors of the network room; each is shown to the person whose packet met it."""

from limen.kernel.errors import Unavailable


class NoGateway(Unavailable):
    """No gateway of the tenant is connected."""

    code = "no-gateway-online"

    def __init__(self) -> None:
        super().__init__("no gateway is online for this resource", fix="ask an administrator to start its gateway")


class GatewaySilent(Unavailable):
    """The gateway did not open the grant in time."""

    code = "gateway-silent"

    def __init__(self) -> None:
        super().__init__(
            "the gateway did not open the access in time", fix="try again; if it stays, look at the gateway"
        )
