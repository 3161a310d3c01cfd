"""Small npz files, and the stand-in that plays an official set."""

from __future__ import annotations

import hashlib
import io

import numpy as np

STAND_IN = "synthetic-breastmnist"  # plays the official breastmnist in these tests


def put(root, content, name="breastmnist.npz"):
    path = root / name
    path.write_bytes(content)
    return path


def npz(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def with_md5(official, content):
    """Make INFO take these bytes as official."""
    official.entry["MD5"] = hashlib.md5(content).hexdigest()
    return content
