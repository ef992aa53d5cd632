"""Conversion of datasets to HUD's format."""

from pytest_harbor.hud.convert.convert import convert

__all__ = ["convert"]
