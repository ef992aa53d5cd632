"""The code that runs inside a deployable image: the conversion copies these modules into its env.py."""
