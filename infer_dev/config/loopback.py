"""Which addresses only this machine can reach."""

import ipaddress

NAME = "localhost"  # RFC 6761, 6.3: never another machine


def is_loopback(host: str) -> bool:
    """Whether `host`, a name or a numeric address, stands for this machine and no other; nobody is asked."""
    if host.lower().removesuffix(".") == NAME:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
