"""Images of the report: conversion of rows to pixels, data URIs, and contact sheets."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from isthmus.data.preprocessing import Preprocessor

MAX_IMAGE_SIDE = 128
"""Pixels of the longer side of an image in the page; larger images are downsampled."""

THUMBNAIL_SIDE = 32
"""Pixels of the longer side of an image in a tooltip."""

Pixels = UInt8[np.ndarray, "images height width channels"]


@dataclass(frozen=True)
class BrightnessScale:
    """The mapping of pixel values to brightness: `low` is black and `high` is white.

    Attributes:
        preprocessing: contains the shape of an image and the transformation from model space.
        low, high: in the units of the user's pixels.
    """

    preprocessing: Preprocessor
    low: float
    high: float

    @classmethod
    def of(cls, preprocessing: Preprocessor, x: Float[np.ndarray, "rows columns"]) -> BrightnessScale:
        """Choose [0, 1], the range of bytes, or the range of the rows: the first that contains the rows."""
        raw = np.asarray(preprocessing.inverse_transform(x))
        low, high = float(raw.min()), float(raw.max())
        if low >= -1e-3 and high <= 1.001:
            return cls(preprocessing, 0.0, 1.0)
        if preprocessing.dtype == "uint8" or (low >= 0 and 64 < high <= 255):
            return cls(preprocessing, 0.0, 255.0)
        return cls(preprocessing, low, high if high > low else low + 1)

    def show(self, x: Float[np.ndarray, "rows columns"]) -> Pixels:
        """Convert rows of model space to bytes with one or three channels."""
        raw = np.asarray(self.preprocessing.inverse_transform(x), np.float64)
        assert self.preprocessing.image_shape is not None
        channels, height, width = self.preprocessing.image_shape
        if channels > 1 and not self.preprocessing.channels_last:
            raw = np.moveaxis(raw, 1, -1)
        raw = raw.reshape(len(raw), height, width, channels)
        bright = np.clip((raw - self.low) / (self.high - self.low), 0, 1)
        return np.rint(255 * visible_channels(bright)).astype(np.uint8)


def visible_channels(image: np.ndarray) -> np.ndarray:
    """Return one or three channels: other numbers of channels are averaged, and a fourth channel (alpha) is dropped.

    Example:
        >>> [visible_channels(np.zeros((5, 2, 2, c))).shape[-1] for c in (1, 2, 3, 4, 7)]
        [1, 1, 3, 3, 1]
    """
    channels = image.shape[-1]
    if channels in (3, 4):
        return image[..., :3]
    return image if channels == 1 else image.mean(-1, keepdims=True)


def as_image(pixels: UInt8[np.ndarray, "height width channels"]) -> Image.Image:
    """Convert pixels to a Pillow image."""
    return Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels))


def downsample(pixels: Pixels, side: int) -> Pixels:
    """Reduce images to a longer side of at most `side`; small images are returned unchanged."""
    height, width = pixels.shape[1:3]
    factor = max(height, width) / side
    if factor <= 1:
        return pixels
    size = max(1, round(width / factor)), max(1, round(height / factor))
    small = [np.asarray(as_image(p).resize(size, Image.Resampling.BOX)) for p in pixels]
    return np.stack(small).reshape(len(pixels), size[1], size[0], pixels.shape[-1])


def png_uri(pixels: UInt8[np.ndarray, "height width channels"]) -> str:
    """Encode an image as a data URI with a PNG file."""
    return _uri(pixels, "png", optimize=True)


def sheet_uri(pixels: UInt8[np.ndarray, "height width channels"]) -> str:
    """Encode a contact sheet as a data URI: colour as JPEG, a quarter of the size of PNG for photographs."""
    return png_uri(pixels) if pixels.shape[-1] == 1 else _uri(pixels, "jpeg", quality=88, subsampling=0)


def _uri(pixels: UInt8[np.ndarray, "height width channels"], form: str, **options: Any) -> str:
    stream = io.BytesIO()
    as_image(pixels).save(stream, form, **options)
    return f"data:image/{form};base64,{base64.b64encode(stream.getvalue()).decode()}"


def contact_sheet(pixels: Pixels) -> UInt8[np.ndarray, "height width channels"]:
    """Arrange images in a nearly square grid, row by row; unused cells are black.

    Example:
        >>> contact_sheet(np.zeros((5, 4, 6, 1), np.uint8)).shape
        (8, 18, 1)
    """
    n, height, width, channels = pixels.shape
    across = math.ceil(math.sqrt(n))
    down = math.ceil(n / across)
    sheet = np.zeros((down * across, height, width, channels), np.uint8)
    sheet[:n] = pixels
    tiles = sheet.reshape(down, across, height, width, channels).swapaxes(1, 2)
    return tiles.reshape(down * height, across * width, channels)


_NEGATIVE, _ZERO, _POSITIVE = np.array([[33, 102, 172], [247, 247, 247], [178, 24, 43]], np.float64)


def signed_colours(
    weight: Float[np.ndarray, "units height width"],
) -> UInt8[np.ndarray, "units height width 3"]:
    """Colour weights blue (negative), white (zero) and red (positive), each unit on its own scale."""
    largest = np.abs(weight).max(axis=(1, 2), keepdims=True)
    share = (weight / np.where(largest > 0, largest, 1))[..., None]
    colour = _ZERO + np.abs(share) * (np.where(share < 0, _NEGATIVE, _POSITIVE) - _ZERO)
    return np.rint(colour).astype(np.uint8)


def filter_pictures(
    weight: Float[np.ndarray, "units channels height width"],
) -> UInt8[np.ndarray, "units height width 3"]:
    """Show the weights of each unit: three channels in colour (grey is zero), others averaged and signed."""
    if weight.shape[1] != 3:
        return signed_colours(weight.mean(1))
    largest = np.abs(weight).max(axis=(1, 2, 3), keepdims=True)
    share = np.moveaxis(weight / np.where(largest > 0, largest, 1), 1, -1)
    return np.rint(127.5 * (1 + share)).astype(np.uint8)
