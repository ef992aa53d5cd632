"""The image that a task's environment starts from: found, pulled, or built once for everyone who shares it."""

from pytest_harbor.image.context import BuildContext
from pytest_harbor.image.model import AdaptMode, BuildPolicy, Image, ImageBackend, ImageDetails
from pytest_harbor.image.store import ImageStore

__all__ = ["AdaptMode", "BuildContext", "BuildPolicy", "Image", "ImageBackend", "ImageDetails", "ImageStore"]
