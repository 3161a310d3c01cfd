"""Evidence that carries its own digest: what cost and timing records share. No torch."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from bench.errors import RecordError
from bench.records import canonical, pretty, write_atomic


class Strict(BaseModel):
    """No unknown key, no change after the fact, no NaN."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Sealed(Strict):
    """A record that tells when it was changed: `record_digest` covers all its other fields."""

    schema_version: Literal[1] = 1
    record_digest: str = ""

    def computed_digest(self) -> str:
        """SHA-256 over the canonical JSON of all fields but `record_digest`."""
        return hashlib.sha256(canonical(self.model_dump(mode="json", exclude={"record_digest"}))).hexdigest()

    def sealed(self) -> Self:
        """A copy with its digest filled in."""
        return self.model_copy(update={"record_digest": self.computed_digest()})


Record = TypeVar("Record", bound=Sealed)


def write_sealed(path: Path, record: Sealed) -> None:
    """Seal a record and write it whole.

    Raises:
        RecordError: If the file system refuses.
    """
    write_atomic(path, pretty(record.sealed().model_dump(mode="json")))


def read_sealed(path: Path, kind: type[Record]) -> Record:
    """Read a record and check schema and digest.

    Raises:
        RecordError: Naming the file and the reason.
    """
    try:
        record = kind.model_validate(json.loads(path.read_bytes()))
    except OSError as error:
        raise RecordError(f"{path}: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise RecordError(f"{path}: {'.'.join(str(step) for step in first['loc'])}: {first['msg']}") from None
    except ValueError as error:
        raise RecordError(f"{path}: no JSON ({error})") from None
    if record.record_digest != record.computed_digest():
        raise RecordError(f"{path}: record_digest does not fit the content; the file was changed after it was measured")
    return record
