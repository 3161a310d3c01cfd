"""Checkpoints of a running training: atomic, digested, the previous one kept until the next is whole."""

from __future__ import annotations

import contextlib
import io
import os
import time
from pathlib import Path
from typing import Any

import torch

from bench.records.writing.framed import read_framed, write_framed

DEFAULT_INTERVAL_SECONDS = 60.0
INTERVAL_VARIABLE = "MEDBENCH_CHECKPOINT_SECONDS"


class Checkpoint:
    """Two files that take turns, each what torch.save wrote behind its SHA-256.

    Args:
        folder: Where the files go; made when first needed.
        key: Digest of all that must be equal for a resume (protocol, model, data); a file with another key
            is not used.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.folder, self.key = folder, key
        self.interval = float(os.environ.get(INTERVAL_VARIABLE, DEFAULT_INTERVAL_SECONDS))
        self._last_saved = time.monotonic()
        self._turn = 0

    def due(self) -> bool:
        """Whether the interval has passed since the last save."""
        return time.monotonic() - self._last_saved >= self.interval

    def save(self, state: dict[str, Any]) -> None:
        """Write the state to the older of the two files.

        Raises:
            RecordError: If the file system refuses.
        """
        buffer = io.BytesIO()
        torch.save({"key": self.key, "saved_ns": time.time_ns(), "state": state}, buffer)
        write_framed(self.folder / f"turn{self._turn}.ckpt", buffer.getvalue())
        self._turn = 1 - self._turn
        self._last_saved = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """The newest whole state of this key, None where there is none; a damaged file is passed over."""
        whole = []
        for turn in (0, 1):
            content = self._read(self.folder / f"turn{turn}.ckpt")
            if content is not None and content.get("key") == self.key:
                whole.append((content["saved_ns"], turn, content["state"]))
        if not whole:
            return None
        _, turn, state = max(whole, key=lambda item: item[0])
        self._turn = 1 - turn
        return dict(state)

    @staticmethod
    def _read(path: Path) -> dict[str, Any] | None:
        payload = read_framed(path)
        if payload is None:
            return None
        content: dict[str, Any] = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
        return content

    def remove(self) -> None:
        """Delete the files: the run is recorded, or starts anew."""
        for file in (*self.folder.glob("turn*.ckpt"), *self.folder.glob("*.part"), *self.folder.glob(".tmp-*")):
            with contextlib.suppress(OSError):
                file.unlink()
        with contextlib.suppress(OSError):
            self.folder.rmdir()
