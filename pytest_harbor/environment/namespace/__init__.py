"""The provider `namespace`: environments made of Linux namespaces and overlays of the host's own system."""

from pytest_harbor.environment.namespace.provider import NamespaceProvider

__all__ = ["NamespaceProvider"]
