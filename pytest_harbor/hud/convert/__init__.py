"""Convert datasets into folders in HUD's format."""
