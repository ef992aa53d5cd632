"""The provider `namespace`: environments made of Linux namespaces and overlays over the host's own system.

README.md in this directory explains how it works and where its boundary is.
"""

from pytest_harbor.environment.namespace.provider import NamespaceProvider

__all__ = ["NamespaceProvider"]
