"""Unit tests are light; see tests/unit_guard.py."""

from tests.unit_guard import no_connections, no_drivers

__all__ = ["no_connections", "no_drivers"]
