"""WireGuard's configuration protocol, keys, names, and what a host must offer."""

from pathlib import Path
from uuid import UUID

import pytest

from limen.edge.gateway.forwarding import Forwarding
from limen.edge.wireguard import uapi
from limen.edge.wireguard.keys import generate_private_key, interface_name, key_text, parse_key, public_key
from limen.edge.wireguard.ports import Peer, TunnelFailed
from limen.edge.wireguard.preflight import HostUnfit, check_host
from limen.kernel.errors import Malformed
from limen.kernel.ids import new_id


def test_public_key_as_wireguard_tools_derive_it() -> None:
    # Made with 'wg genkey' and 'wg pubkey' (wireguard-tools 1.0.20210914).
    private = "uK34zesxgyfzm93iTAhEfPjhQyVcA5eqxhBzOtRAvH4="
    assert key_text(public_key(parse_key(private))) == "d6iwmOVGr1Lft6N4G5nuXTOkdf/oPpUPUFUuSU8GLBI="


def test_keys_in_text() -> None:
    key = generate_private_key()
    assert parse_key(key_text(key)) == key
    for wrong in ("", "abc", key_text(key)[:-4], key_text(key) + "AAAA", "ä" * 44):
        with pytest.raises(Malformed):
            parse_key(wrong)


def test_agents_enrolled_in_the_same_minute_have_interfaces_of_their_own() -> None:
    names = {interface_name(new_id()) for _ in range(200)}
    assert len(names) == 200
    assert all(len(name) <= 15 for name in names)
    assert interface_name(UUID(int=0xABCDEF12), "lmt") == "lmtabcdef12"


def test_a_peer_as_the_protocol_wants_it() -> None:
    peer = Peer(b"\x01" * 32, ("10.0.0.0/24", "100.64.0.1/32"), "[2001:db8::1]:51820", 25, b"\x02" * 32)
    assert uapi.encode_peer(peer) == (
        f"set=1\npublic_key={'01' * 32}\npreshared_key={'02' * 32}\nendpoint=[2001:db8::1]:51820\n"
        "persistent_keepalive_interval=25\nreplace_allowed_ips=true\n"
        "allowed_ip=10.0.0.0/24\nallowed_ip=100.64.0.1/32\n\n"
    )
    assert uapi.encode_removal(b"\x01" * 32) == f"set=1\npublic_key={'01' * 32}\nremove=true\n\n"


def test_status_of_peers() -> None:
    answer = (
        f"private_key={'00' * 32}\nlisten_port=51820\npublic_key={'aa' * 32}\nendpoint=192.0.2.2:9\n"
        "last_handshake_time_sec=100\nlast_handshake_time_nsec=500000000\ntx_bytes=3\nrx_bytes=4\n"
        f"allowed_ip=10.0.0.0/8\nallowed_ip=10.1.0.0/16\npublic_key={'bb' * 32}\nerrno=0\n\n"
    )
    first, second = uapi.parse_peers(uapi.parse_answer(answer))
    assert (first.endpoint, first.allowed_ips) == ("192.0.2.2:9", ("10.0.0.0/8", "10.1.0.0/16"))
    assert (first.last_handshake, first.received_bytes, first.sent_bytes) == (100.5, 4, 3)
    assert (second.public_key, second.last_handshake, second.allowed_ips) == (b"\xbb" * 32, 0.0, ())


@pytest.mark.parametrize("answer", ["errno=-22\n\n", "listen_port=1\n", ""])
def test_refusals_and_cut_answers_are_errors(answer: str) -> None:
    with pytest.raises(TunnelFailed):
        uapi.parse_answer(answer)


def status_file(path: Path, capabilities: int) -> Path:
    path.write_text(f"Name:\tx\nCapEff:\t{capabilities:016x}\n")
    return path


def test_a_fit_host_passes(tmp_path: Path) -> None:
    check_host(("sh",), status=status_file(tmp_path / "s", 0x3000), tun=Path("/dev/null"))


def test_each_lack_is_named_with_its_remedy(tmp_path: Path) -> None:
    fit, device = status_file(tmp_path / "fit", 0x3000), Path("/dev/null")
    with pytest.raises(HostUnfit, match="CAP_NET_ADMIN") as no_admin:
        check_host((), status=status_file(tmp_path / "a", 0x2000), tun=device)
    assert "root" in no_admin.value.fix
    with pytest.raises(HostUnfit, match="CAP_NET_RAW"):
        check_host((), status=status_file(tmp_path / "r", 0x1000), tun=device)
    check_host((), ("CAP_NET_ADMIN",), status=status_file(tmp_path / "r", 0x1000), tun=device)
    with pytest.raises(HostUnfit, match="/dev/net/tun") as no_tun:
        check_host((), status=fit, tun=tmp_path / "none")
    assert "modprobe tun" in no_tun.value.fix
    with pytest.raises(HostUnfit, match="no-such-program") as no_program:
        check_host(("no-such-program",), status=fit, tun=device)
    assert "apt-get install" in no_program.value.fix


@pytest.mark.parametrize(("before", "after"), [("0\n", "0\n"), ("1\n", "1\n")])
def test_forwarding_is_put_back_as_it_was(tmp_path: Path, before: str, after: str) -> None:
    switch = tmp_path / "ip_forward"
    switch.write_text(before)
    forwarding = Forwarding(switch)
    forwarding.switch_on()
    assert switch.read_text() == "1\n"
    forwarding.put_back()
    forwarding.put_back()
    assert switch.read_text() == after
