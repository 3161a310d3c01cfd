"""Evidence on disk: written whole or not at all, strict, and carrying its own digest. No torch."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from bench.errors import RecordError

SCHEMA_VERSION = 1
TEMPORARY = ".tmp-"  # how the names of files begin that are being written
LEFT_SECONDS = 24 * 3600.0  # after which a temporary file counts as left where the file system has no locks
MAX_DEPTH = 24  # of a JSON file; a record has less than ten levels, and what prints one may stop at 255
MAX_FILE_BYTES = 64 * 2**20  # many times the largest file of evidence


def one_line(value: str) -> str:
    """Text that may stand in a table, a heading or a message: it cannot begin a line of its own.

    Raises:
        ValueError: If a character cannot be printed in one line.
    """
    if not value.isprintable():
        raise ValueError("printable characters in one line only")
    return value


Line = Annotated[str, AfterValidator(one_line)]


def canonical(content: Any) -> bytes:
    """JSON with sorted keys, no spaces, no NaN, in UTF-8: what digests are taken over."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode()


def pretty(content: Any) -> bytes:
    """JSON for files: sorted keys, one key a line, a final newline."""
    return (json.dumps(content, sort_keys=True, indent=1, allow_nan=False, ensure_ascii=False) + "\n").encode()


class Strict(BaseModel):
    """No unknown key, no change after the fact, no NaN."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Sealed(Strict):
    """A record that shows when it was changed: `record_digest` covers all its other fields."""

    schema_version: Literal[1] = 1
    record_digest: str = ""

    def computed_digest(self) -> str:
        """SHA-256 over the canonical JSON of all fields but `record_digest`."""
        return hashlib.sha256(canonical(self.model_dump(mode="json", exclude={"record_digest"}))).hexdigest()

    def sealed(self) -> Self:
        """A copy with its digest filled in."""
        return self.model_copy(update={"record_digest": self.computed_digest()})


Kind = TypeVar("Kind", bound=Sealed)


def explain_os_error(error: OSError, path: Path) -> RecordError:
    """One line for a file system that does not take a file."""
    why = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up"}.get(error.errno or 0)
    return RecordError(f"Cannot write {path}: {why or error.strerror or error}; free it or choose another --results")


def explain_validation(error: Exception) -> str:
    """The first reason of a refusal: `seed: Input should be ...`."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"])
        return f"{where}: {first['msg']}" if where else str(first["msg"])
    return str(error)


@contextlib.contextmanager
def staged(path: Path, content: bytes) -> Iterator[Path]:
    """A file written whole and flushed beside its path, under a temporary name; gone afterwards unless it was renamed.

    It is locked meanwhile, so that `sweep_left` takes no file of a living writer for one that was left.

    Args:
        path: Where it belongs.
        content: What to write.

    Yields:
        The temporary file.

    Raises:
        RecordError: If the file system refuses.
    """
    temporary = path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary, stream = _open_temporary(path)
        with stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
            yield temporary
    except OSError as error:
        raise explain_os_error(error, path) from None
    finally:
        if temporary != path:
            with contextlib.suppress(OSError):
                temporary.unlink()


def _open_temporary(path: Path) -> tuple[Path, BinaryIO]:
    """A new temporary file beside a path, locked where the file system has locks."""
    while True:
        temporary = path.with_name(f"{TEMPORARY}{os.getpid()}-{secrets.token_hex(4)}-{path.name}")
        stream = temporary.open("xb")
        with contextlib.suppress(OSError):
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(stream.fileno()).st_nlink:
            return temporary, stream
        stream.close()  # swept between its making and its lock


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: a temporary file beside it, flushed, then renamed.

    Raises:
        RecordError: If the file system refuses.
    """
    with staged(path, content) as temporary:
        temporary.replace(path)


def write_new(path: Path, content: bytes) -> bool:
    """Write a file whole where none stands; False, and nothing is changed, where one does.

    Raises:
        RecordError: If the file system refuses.
    """
    with staged(path, content) as temporary:
        try:
            path.hardlink_to(temporary)
        except FileExistsError:
            return False
        except OSError:  # a file system without hard links
            if path.exists():
                return False
            temporary.replace(path)
    return True


def sweep_left(folder: Path, *, below: bool = True) -> list[Path]:
    """Remove temporary files that killed writers left, never one of a living writer.

    Args:
        folder: Where to look; nothing happens where it is not there.
        below: Look in all folders below too; links are not followed.

    Returns:
        The files that were removed.
    """
    pattern = f"{TEMPORARY}*"
    return [path for path in (folder.rglob(pattern) if below else folder.glob(pattern)) if _removed_if_left(path)]


def _removed_if_left(path: Path) -> bool:
    """Remove a temporary file whose writer is gone: its lock is free, or it is old where there are no locks."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            if time.time() - os.fstat(descriptor).st_mtime < LEFT_SECONDS:
                return False
        path.unlink()
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def write_sealed(path: Path, record: Sealed) -> None:
    """Seal a record and write it whole.

    Raises:
        RecordError: If the file system refuses.
    """
    write_atomic(path, sealed_bytes(record))


def sealed_bytes(record: Sealed) -> bytes:
    """A record's file, its digest filled in."""
    return pretty(record.sealed().model_dump(mode="json"))


def read_file(path: Path, max_bytes: int = MAX_FILE_BYTES) -> bytes:
    """The bytes of a file of evidence; a pipe or a device, which might never end, is not opened.

    Raises:
        RecordError: If there is none, it is no regular file, or it is too large to be evidence.
    """
    try:
        state = path.stat()
        if not stat.S_ISREG(state.st_mode):
            raise RecordError(f"{path} is no regular file; remove it")
        if state.st_size > max_bytes:
            raise RecordError(f"{path} has {state.st_size:,} bytes; a file of evidence has at most {max_bytes:,}")
        return path.read_bytes()
    except OSError as error:
        raise RecordError(f"{path}: {error.strerror}") from None


def read_json(path: Path) -> Any:
    """What a JSON file of evidence holds.

    Raises:
        RecordError: As `read_file`; also if it is no JSON, or nested deeper than evidence is.
    """
    try:
        content = json.loads(read_file(path))
    except RecursionError:
        raise RecordError(f"{path}: no JSON of a record (nested too deeply)") from None
    except ValueError as error:
        raise RecordError(f"{path}: no JSON ({error})") from None
    if _is_deeper(content, MAX_DEPTH):
        raise RecordError(f"{path}: no JSON of a record (nested too deeply)")
    return content


def _is_deeper(content: Any, levels: int) -> bool:
    """Whether lists and tables stand in one another on more levels than these."""
    layer = [content] if isinstance(content, (dict, list)) else []
    for _ in range(levels):
        insides = (outer.values() if isinstance(outer, dict) else outer for outer in layer)
        layer = [inner for inside in insides for inner in inside if isinstance(inner, (dict, list))]
    return bool(layer)


def read_sealed(path: Path, kind: type[Kind]) -> Kind:
    """Read a record and check schema and digest.

    Raises:
        RecordError: Naming the file and the reason.
    """
    content = read_json(path)
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != SCHEMA_VERSION:
        newer = isinstance(version, int) and version > SCHEMA_VERSION
        hint = "; it was written by a newer suite" if newer else ""
        raise RecordError(f"{path}: schema_version is {version!r}, this suite reads {SCHEMA_VERSION}{hint}")
    try:
        record = kind.model_validate(content)
    except (ValidationError, RecordError) as error:
        raise RecordError(f"{path}: {explain_validation(error)}") from None
    try:
        digest = record.computed_digest()
    except UnicodeEncodeError:
        raise RecordError(f"{path}: holds text that UTF-8 cannot write") from None
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path}: holds what JSON cannot write ({error})") from None
    if record.record_digest != digest:
        raise RecordError(f"{path}: record_digest does not fit the content; the file was changed after it was measured")
    return record


def read_all(
    paths: Iterable[Path], kind: type[Kind], problem_of: Callable[[Kind, Path], str]
) -> tuple[list[Kind], list[str]]:
    """Every record that counts, and why the others were left out, one line each; args as `read_placed`."""
    records, notes = read_placed(paths, kind, problem_of)
    return list(records.values()), notes


def read_placed(
    paths: Iterable[Path], kind: type[Kind], problem_of: Callable[[Kind, Path], str]
) -> tuple[dict[Path, Kind], list[str]]:
    """Every record that counts by its path, and why the others were left out, one line each.

    Args:
        paths: The files.
        kind: What they hold.
        problem_of: Why a readable record does not count, "" if it does.
    """
    records: dict[Path, Kind] = {}
    notes: list[str] = []
    for path in sorted(paths):
        try:
            record = read_sealed(path, kind)
        except RecordError as error:
            notes.append(f"left out: {error}")
            continue
        try:
            reason = problem_of(record, path)
        except RecordError as error:  # one that cannot be placed must not hide the others
            reason = str(error)
        if reason:
            notes.append(f"left out: {path}: {reason}")
        else:
            records[path] = record
    return records, notes
