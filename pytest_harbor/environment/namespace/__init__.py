"""The provider `namespace`: environments made of Linux namespaces and overlays of the host's own system."""
