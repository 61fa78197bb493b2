"""Find out from what a client reports whether a connection is protected by TLS."""

import ipaddress
from dataclasses import dataclass


@dataclass(frozen=True)
class Tls:
    """How a connection is protected.

    :param host: the server's address; a path or an empty text is a socket of this machine
    :param is_encrypted: whether the connection uses TLS
    :param is_verified: whether the client checks the certificate and the name in it
    """

    host: str
    is_encrypted: bool
    is_verified: bool = False

    @property
    def leaves_the_machine(self) -> bool:
        """Return whether others could read the connection."""
        if self.host in ("", "localhost") or self.host.startswith("/"):
            return False
        try:
            return not ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:  # a name
            return True
