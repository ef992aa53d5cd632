"""What runs inside a deployable image; the converter writes these modules into its env.py."""
