"""Folders of PNG and JPEG images, one a class -> an npz file and the card of a data set of one's own."""

from __future__ import annotations

import io
import json
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.data.own import CARD_NAME, MAX_NAME, SPLITS, OwnCard, SeededSplit, read_content, read_own_card
from bench.errors import DataError
from bench.records.sealed import write_atomic

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".png", ".jpg", ".jpeg")
NPZ_NAME = "images.npz"
LARGEST = 4096  # pixels a side that an imported image may get: beyond it a set fits into no memory


@dataclass(frozen=True)
class Import:
    """What an import leaves: the card, and how many images of how many classes."""

    card: Path
    num_images: int
    num_classes: int


@dataclass
class _Found:
    """The image files of one part: paths with their labels, in the order of names."""

    paths: list[Path] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)


def import_folder(
    source: Path,
    target: Path,
    *,
    name: str = "",
    size: int = 64,
    channels: int | None = None,
    license: str = "unknown",
    positive: str | None = None,
    split: SeededSplit | None = None,
) -> Import:
    """Write `images.npz` and `card.toml` from class folders.

    `source/<class>/*.png` is divided by a seed; `source/train|val|test/<class>/*.png` keeps its splits. Images are cut
    to their central square and resized to `size` (Pillow's box filter); the seed, the classes and all else stand in the
    card, to be changed by hand.

    Args:
        source: The folder of class folders.
        target: Where both files go; made if it is not there.
        name: The set's; the folder's name if empty.
        size: Pixels a side.
        channels: 1 or 3; None for 3 where any image has colour.
        license: What the card says.
        positive: The class that a clinician asks for.
        split: Seed and shares, for a folder without splits.

    Raises:
        DataError: If a folder is empty, an image cannot be read, or files would be overwritten; nothing is written.
    """
    if not 1 <= size <= LARGEST:
        raise DataError(f"--size {size} is refused; give pixels a side from 1 to {LARGEST}")
    if channels not in (None, 1, 3):
        raise DataError(f"--channels {channels} is refused; 1 is gray, 3 is RGB")
    for file in (target / NPZ_NAME, target / CARD_NAME):
        if file.exists():
            raise DataError(f"{file} is there already; choose another --out, or remove it")
    parts, classes = _find(source)
    if split is not None and "" not in parts:
        raise DataError(f"{source} has folders train, val and test; leave --seed, --val and --test out")
    modes = {part: [squared(read_image(path), size) for path in found.paths] for part, found in parts.items()}
    if channels is None:
        channels = 3 if any(_has_colour(image) for images in modes.values() for image in images) else 1
    content: dict[str, NDArray[Any]] = {}
    for part, found in parts.items():
        prefix = f"{part}_" if part else ""
        content[f"{prefix}images"] = np.stack([in_channels(image, channels) for image in modes[part]])
        content[f"{prefix}labels"] = np.array(found.labels, dtype=np.int64)[:, None]
    text = _card_text(
        name=name or _slug(source.resolve().name),
        classes=classes,
        channels=channels,
        license=license,
        positive=positive,
        split=(split or SeededSplit()) if "" in parts else None,
    )
    return _written(target, text, content, sum(len(found.paths) for found in parts.values()), len(classes))


def _find(source: Path) -> tuple[dict[str, _Found], list[str]]:
    """Image files by part ("" for a folder without splits), and the classes in alphabetical order.

    Raises:
        DataError: If there are no class folders, or one holds no image.
    """
    if not source.is_dir():
        raise DataError(f"{source} is no folder; give one that holds a folder for each class")
    names = {path.name for path in _folders(source)}
    divided = set(SPLITS) <= names
    if names & set(SPLITS) and names != set(SPLITS):
        raise DataError(
            f"{source} holds {', '.join(sorted(names))}; splits are train, val and test, and nothing beside"
        )
    tops = {split: source / split for split in SPLITS} if divided else {"": source}
    classes = sorted({folder.name for top in tops.values() for folder in _folders(top)})
    if len(classes) < 2:
        raise DataError(f"{source} has {len(classes)} class folders; two or more are needed, with PNG or JPEG images")
    if odd := [name for name in classes if not name.isprintable()]:
        raise DataError(f"{source}: the folder name {odd[0]!r} is no class name that can be printed; rename the folder")
    parts = {}
    for part, top in tops.items():
        found = parts[part] = _Found()
        for label, class_name in enumerate(classes):
            folder = top / class_name
            files = (
                sorted(path for path in folder.glob("*") if path.suffix.lower() in SUFFIXES) if folder.is_dir() else []
            )
            if not files:
                raise DataError(f"{folder} holds no PNG or JPEG image; each class needs some in each split")
            found.paths += files
            found.labels += [label] * len(files)
    return parts, classes


def _folders(top: Path) -> list[Path]:
    return sorted(path for path in top.iterdir() if path.is_dir() and not path.name.startswith("."))


def read_image(path: Path) -> Image:
    """An image in RGB, turned as its EXIF says.

    Raises:
        DataError: If it is broken or has more than 8 bits a channel, or Pillow is not installed.
    """
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise DataError(f"PNG and JPEG need the package Pillow ({error}); install the suite's extra [run]") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            opened = Image.open(io.BytesIO(path.read_bytes()), formats=("PNG", "JPEG"))
            opened.load()
            image: Image.Image = ImageOps.exif_transpose(opened)
            check_depth(image, path)
            return image.convert("RGB")
    except DataError:
        raise
    except Exception as error:  # Pillow raises what its decoders do: OSError, SyntaxError, ValueError, a bomb's warning
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise DataError(f"{path} is no readable PNG or JPEG image ({first}); repair or remove it") from None


def check_depth(image: Image, path: Path) -> None:
    """Refuse what Pillow would cut off at 255.

    Raises:
        DataError: If an image has more than 8 bits a channel.
    """
    if image.mode.startswith(("I", "F")):
        raise DataError(f"{path} has 16 or more bits a channel; save it with 8, as its window should be yours")


def squared(image: Image, size: int) -> NDArray[np.uint8]:
    """An image's central square as (size, size, 3)."""
    from PIL import Image, ImageOps

    square = min(image.size)
    image = ImageOps.fit(image, (square, square), method=Image.Resampling.NEAREST)
    resized = image.resize((size, size), Image.Resampling.BOX if square >= size else Image.Resampling.BILINEAR)
    return np.asarray(resized, dtype=np.uint8)


def _has_colour(image: NDArray[np.uint8]) -> bool:
    return bool((image != image[..., :1]).any())


def in_channels(image: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    """(S, S, 3) as it is, or gray (S, S) by the usual luma weights in whole numbers, as Pillow has them."""
    if channels == 3:
        return image
    weighted = image.astype(np.uint32) @ np.array([19595, 38470, 7471], dtype=np.uint32)
    gray: NDArray[np.uint8] = ((weighted + 0x8000) >> 16).astype(np.uint8)
    return gray


def _slug(name: str) -> str:
    """A folder's name as a data set's."""
    return "-".join(re.findall(r"[a-z0-9]+", name.lower()))[:MAX_NAME].strip("-") or "data"


def _card_text(
    *,
    name: str,
    classes: Sequence[str],
    channels: int,
    license: str,
    positive: str | None,
    split: SeededSplit | None,
) -> str:
    """The card as TOML; JSON's strings are TOML's too."""
    quoted = {key: json.dumps(value, ensure_ascii=False) for key, value in (("license", license), ("name", name))}
    lines = [
        f"name = {quoted['name']}",
        f'task = "{"binary-class" if len(classes) == 2 else "multi-class"}"',
        f"channels = {channels}",
        f"classes = {json.dumps(list(classes), ensure_ascii=False)}",
        f"license = {quoted['license']}",
        f'file = "{NPZ_NAME}"',
    ]
    lines += [f"positive = {json.dumps(positive, ensure_ascii=False)}"] if positive is not None else []
    lines += (
        [] if split is None else ["", "[split]", f"seed = {split.seed}", f"val = {split.val}", f"test = {split.test}"]
    )
    return "\n".join(lines) + "\n"


def _written(target: Path, text: str, content: dict[str, NDArray[Any]], num_images: int, num_classes: int) -> Import:
    """Both files, checked as a run checks them; neither stays where the check fails."""
    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, **content)
    npz, card = target / NPZ_NAME, target / CARD_NAME
    try:
        write_atomic(npz, stream.getvalue())
        write_atomic(card, text.encode())
        checked: OwnCard = read_own_card(card)
        read_content(card, checked)
    except BaseException:
        npz.unlink(missing_ok=True)
        card.unlink(missing_ok=True)
        raise
    return Import(card, num_images, num_classes)
