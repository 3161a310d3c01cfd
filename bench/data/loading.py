"""MedMNIST sets: file -> checksum -> official splits -> uint8 arrays, whole in memory.

medmnist's INFO is the source of truth for MD5, address, splits, classes and licence. It is imported on first
use: it takes torch with it.
"""

from __future__ import annotations

import functools
import importlib
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.data import own, synthetic
from bench.data.md5 import arrays_md5, md5_of
from bench.data.names import flag_of
from bench.data.npz import Content, read_npz
from bench.errors import DataError, DataMissingError
from bench.records.names import is_own

SPLITS = ("train", "val", "test")
ROOT_VARIABLE = "MEDMNIST_ROOT"

Root = str | os.PathLike[str] | None


@dataclass(frozen=True)
class DatasetInfo:
    """What is known of a data set without its file.

    Attributes:
        name: `breastmnist`, `synthetic-breastmnist` or `own-<name>`.
        flag: medmnist's, `breastmnist` for both; the name of a set of one's own.
        task: medmnist's word: `binary-class`, `multi-class` or `ordinal-regression`.
        num_channels: 1 or 3.
        class_names: By label.
        num_images: By split.
        md5: Of the official file, by pixels a side; empty where there is none.
        url: Of the official file, by pixels a side; empty where there is none.
    """

    name: str
    flag: str
    task: synthetic.Task
    num_classes: int
    num_channels: int
    class_names: tuple[str, ...]
    license: str
    synthetic: bool
    num_images: Mapping[str, int]
    md5: Mapping[int, str]
    url: Mapping[int, str]


@dataclass(frozen=True)
class Arrays:
    """A data set in memory.

    Attributes:
        images: By split, (N, H, W) or (N, H, W, 3).
        labels: By split, (N,) class indices.
        md5: Of the file; of the arrays' bytes for a synthetic set and for one's own.
        info: What is known of it.
    """

    images: dict[str, NDArray[np.uint8]]
    labels: dict[str, NDArray[np.int64]]
    md5: str
    info: DatasetInfo


def get_info(name: str) -> DatasetInfo:
    """What is known of a data set without its file.

    Raises:
        DataError: If no such set can be scored, or medmnist is not installed.
    """
    flag = flag_of(name)
    if flag != name:
        return _synthetic_info(name, flag)
    entry = _medmnist_info()[flag]
    sizes = {int(key.removeprefix("MD5_")) if "_" in key else 28: key for key in entry if key.startswith("MD5")}
    return DatasetInfo(
        name=name,
        flag=flag,
        task=entry["task"],
        num_classes=len(entry["label"]),
        num_channels=entry["n_channels"],
        class_names=tuple(entry["label"][str(label)] for label in range(len(entry["label"]))),
        license=entry["license"],
        synthetic=False,
        num_images=dict(entry["n_samples"]),
        md5={size: entry[key] for size, key in sorted(sizes.items())},
        url={size: entry[key.replace("MD5", "url")] for size, key in sorted(sizes.items())},
    )


def _synthetic_info(name: str, flag: str) -> DatasetInfo:
    form = synthetic.STAND_INS[flag]
    num_classes = len(form.train_counts)
    return DatasetInfo(
        name=name,
        flag=flag,
        task=form.task,
        num_classes=num_classes,
        num_channels=form.num_channels,
        class_names=tuple(f"synthetic {label}" for label in range(num_classes)),
        license=synthetic.LICENSE,
        synthetic=True,
        num_images=dict(synthetic.SPLIT_SIZES),
        md5={},
        url={},
    )


def _medmnist_info() -> Mapping[str, Any]:
    """The INFO of medmnist, whose import makes ~/.medmnist and warns where it cannot: no reason to stop."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            info: Mapping[str, Any] = importlib.import_module("medmnist").INFO
    except ImportError as error:
        hint = "install the suite's extra [run]"
        raise DataError(f"MedMNIST's sets need the package medmnist, whose import fails ({error}); {hint}") from None
    return info


def file_name(flag: str, size: int) -> str:
    """Name of a set's file as medmnist has it: `breastmnist.npz`, `breastmnist_64.npz`."""
    return f"{flag}.npz" if size == 28 else f"{flag}_{size}.npz"


def data_root(root: Root = None) -> Path:
    """The folder of the files: the argument, else `$MEDMNIST_ROOT`, else `~/.medmnist`."""
    return Path(os.path.expanduser(root or os.environ.get(ROOT_VARIABLE) or "~/.medmnist"))


def find_file(name: str, size: int, root: Root = None, download: bool = True) -> Path:
    """The official file of a set, with the official MD5; downloaded where it is missing.

    Args:
        name: A MedMNIST flag.
        size: Pixels a side.
        root: Folder to look in instead of `$MEDMNIST_ROOT` or `~/.medmnist`.
        download: Whether to try; MEDBENCH_OFFLINE=1 in the environment also forbids it.

    Raises:
        DataMissingError: If the file is neither there nor downloadable.
        DataError: If it is damaged or no such file exists.
    """
    info = get_info(name)
    if info.synthetic:
        raise DataError(f"{name} has no file, it is made by formula; `load` makes it")
    if size not in info.md5:
        raise DataError(f"There is no {name} with {size} px; there are {', '.join(map(str, info.md5))} px")
    path = data_root(root) / file_name(info.flag, size)
    try:
        there = path.is_file()
    except OSError as error:
        raise DataError(f"Cannot look for {path}: {error.strerror}; make the folder readable") from None
    if not there:
        _obtain(info, size, path, download)
    _check_md5(path, info, size)
    return path


def _obtain(info: DatasetInfo, size: int, path: Path, download: bool) -> None:
    from bench.data.download import DownloadError, download_file  # the web's clients, which few runs need

    url = info.url[size]
    try:
        if not download:
            raise DownloadError("not tried")
        download_file(url, path, info.md5[size])
    except DownloadError as error:
        raise DataMissingError(
            f"{info.name} ({size} px) is not available: looked for {path}; download from {url}: {error}. "
            f"Put the file there, or set {ROOT_VARIABLE} to the folder that holds it"
        ) from None


def _check_md5(path: Path, info: DatasetInfo, size: int) -> None:
    try:
        stat = path.stat()
        actual = _md5_of(path.resolve(), stat.st_mtime_ns, stat.st_size)
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror}; make it readable") from None
    if actual != info.md5[size]:
        raise DataError(
            f"{path} is not the official {info.name} ({size} px): its MD5 is {actual}, the official one is "
            f"{info.md5[size]}; delete it to have it downloaded, or put the official file there"
        )


@functools.cache
def _md5_of(path: Path, mtime_ns: int, size_bytes: int) -> str:
    """A file's MD5, read once a process as long as the file's time and size stay the same."""
    with path.open("rb") as stream:
        return md5_of(stream)


def to_arrays(content: Content, info: DatasetInfo, size: int, md5: str, source: str) -> Arrays:
    """Check the six arrays of a file and flatten the labels.

    Args:
        content: By medmnist's key.
        info: What the set must look like.
        size: Pixels a side.
        md5: Passed on.
        source: Path or name, for messages.

    Raises:
        DataError: If a key, dtype, shape, count or label is not as it must be.
    """
    expected = {f"{split}_{kind}" for split in SPLITS for kind in ("images", "labels")}
    if set(content) != expected:
        raise DataError(f"{source} holds {', '.join(sorted(content))}; {info.name} needs {', '.join(sorted(expected))}")
    pixels = (size, size) if info.num_channels == 1 else (size, size, 3)
    for split in SPLITS:
        images, labels, num = content[f"{split}_images"], content[f"{split}_labels"], info.num_images[split]
        if images.dtype != np.uint8 or images.shape != (num, *pixels):
            raise DataError(f"{source}: {split}_images is {_form(images)}; needed is uint8 {(num, *pixels)}")
        if labels.dtype.kind not in "iu" or labels.shape != (num, 1):
            raise DataError(f"{source}: {split}_labels is {_form(labels)}; needed are whole numbers {(num, 1)}")
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= info.num_classes:
            raise DataError(f"{source}: {split}_labels go from {low} to {high}; there are {info.num_classes} classes")
    return Arrays(
        images={split: content[f"{split}_images"] for split in SPLITS},
        labels={split: content[f"{split}_labels"].ravel().astype(np.int64) for split in SPLITS},
        md5=md5,
        info=info,
    )


def _form(array: NDArray[Any]) -> str:
    return f"{array.dtype} {array.shape}"


def load(name: str, size: int, root: Root = None, download: bool = True) -> Arrays:
    """A data set, whole in memory.

    Args:
        name: A MedMNIST flag, `synthetic-<flag>`, or `own-<name>` whose card this process knows.
        size: Pixels a side; a set of one's own has the size of its images, whatever is asked for.
        root: As for `find_file`.
        download: As for `find_file`.

    Raises:
        DataMissingError: If the file is neither there nor downloadable.
        DataError: If it is damaged or no such set exists.
    """
    if is_own(name):
        return _load_own(name)
    info = get_info(name)
    if info.synthetic:
        content = synthetic.make(name, size)
        return to_arrays(content, info, size, arrays_md5(content), name)
    path = find_file(name, size, root, download)
    return to_arrays(read_npz(path), info, size, info.md5[size], str(path))


def _load_own(name: str) -> Arrays:
    """Somebody's own set, as its card says; its MD5 is that of the arrays, so that it covers a seeded split too."""
    path = own.card_file(name)
    card = own.read_own_card(path)
    content = own.read_content(path, card)
    info = DatasetInfo(
        name=name,
        flag=name,
        task=card.task,
        num_classes=len(card.classes),
        num_channels=card.channels,
        class_names=card.classes,
        license=card.license,
        synthetic=False,
        num_images={split: len(content[f"{split}_labels"]) for split in SPLITS},
        md5={},
        url={},
    )
    return to_arrays(content, info, content["train_images"].shape[1], arrays_md5(content), str(path))
