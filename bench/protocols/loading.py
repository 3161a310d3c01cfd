"""Protocols and studies by name or path: TOML files in, the objects of `schema` out, errors that name the key.

A protocol is everything that changes a number. Its name is frozen: a changed protocol is a new file.
"""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from bench.errors import ProtocolError, did_you_mean, suggestion
from bench.protocols.families import SUFFIX, Rules, members, merge, with_draw
from bench.protocols.schema import Protocol, Study, StudyPart

PROTOCOL_DIR = Path(__file__).parent
STUDY_DIR = Path(__file__).parents[1] / "studies"


Kind = TypeVar("Kind", Protocol, Study)


def _known_keys(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The keys that the table at this location takes."""
    for step in location:
        if isinstance(step, int):
            continue
        annotation = model.model_fields[step].annotation if step in model.model_fields else None
        for candidate in (annotation, *getattr(annotation, "__args__", ())):
            if isinstance(candidate, type) and issubclass(candidate, BaseModel):
                model = candidate
    return sorted(set(model.model_fields) - {"name"} if model in (Protocol, Study) else model.model_fields)


def explain(path: Path, kind: type[BaseModel], error: ValidationError) -> ProtocolError:
    """One line on what a file's schema refuses."""
    # A mistyped key is also a missing one: the mistyping is what helps.
    first = next((item for item in error.errors() if item["type"] == "extra_forbidden"), error.errors()[0])
    location = tuple(first["loc"])
    where = ".".join(str(step) for step in location) or path.stem
    if first["type"] == "extra_forbidden":
        known = _known_keys(kind, location[:-1])
        hint = did_you_mean(str(location[-1]), known)
        more = ["extends"] if kind is Protocol and len(location) == 1 else []
        return ProtocolError(
            f"{path}: unknown key {where!r}; {hint}{' ' if hint else ''}known keys here: {', '.join([*more, *known])}"
        )
    if first["type"] == "missing":
        return ProtocolError(f"{path}: the key {where!r} is missing")
    if where == "name":
        return ProtocolError(f"{path}: rename the file: small letters, digits and single dashes make a name")
    message = first["msg"].replace("a valid tuple", "a list").removeprefix("Value error, ")
    return ProtocolError(f"{path}: {where} = {first.get('input')!r} is refused: {message}")


def read_toml(path: Path) -> dict[str, Any]:
    """A file's tables.

    Raises:
        ProtocolError: If it cannot be read, or is not valid TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ProtocolError(f"Cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ProtocolError(f"{path} is not valid TOML: {error}") from None
    except (RecursionError, ValueError):
        raise ProtocolError(f"{path} is not valid TOML: nested too deeply, or a number is too long") from None


def _resolve(path: Path, seen: tuple[Path, ...] = ()) -> Rules:
    """The file's tables over those of the protocol that it extends."""
    if path in seen:
        raise ProtocolError(f"{path}: extends leads back to itself")
    return _extended(path, read_toml(path), seen)


def _extended(path: Path, content: Rules, seen: tuple[Path, ...] = ()) -> Rules:
    """As `_resolve`, of a file with this content."""
    parent = content.get("extends")
    content = {key: value for key, value in content.items() if key != "extends"}
    if parent is None:
        return content
    parent_path = _find(str(parent), PROTOCOL_DIR, "protocol", beside=path.parent)
    return merge(_resolve(parent_path, (*seen, path)), content)


def _find(name: str, folder: Path, word: str, beside: Path | None = None) -> Path:
    """A name of the folder, a file beside the one that names it, or a path that ends in .toml."""
    if name.endswith(".toml"):
        return Path(name)
    for directory in (folder, beside):
        if directory is not None and (directory / f"{name}.toml").exists():
            return directory / f"{name}.toml"
    known = _stems(folder)
    close = did_you_mean(name, [*known, *(_members() if folder == PROTOCOL_DIR else ())])
    raise ProtocolError(f"Unknown {word} {name!r}; {close or suggestion(name, known)}")


def _stems(folder: Path) -> list[str]:
    """Names of the files that are one protocol or study each, sorted."""
    return sorted(file.stem for file in folder.glob("*.toml") if not file.name.endswith(SUFFIX))


def _load(kind: type[Kind], path: Path, content: dict[str, Any], name: str = "") -> Kind:
    try:
        return kind.model_validate({**content, "name": name or path.stem})
    except ValidationError as error:
        raise explain(path, kind, error) from None


@cache
def _members() -> dict[str, tuple[Path, Rules]]:
    """The file and the rules of every member of every family, by name."""
    return {
        name: (path, rules)
        for path in sorted(PROTOCOL_DIR.glob(f"*{SUFFIX}"))
        for name, rules in members(path.name.removesuffix(SUFFIX), _resolve(path)).items()
    }


def families() -> dict[str, list[str]]:
    """Names of the protocols of each family, by the family's name."""
    found: dict[str, list[str]] = {}
    for name, (path, _) in _members().items():
        found.setdefault(path.name.removesuffix(SUFFIX), []).append(name)
    return found


def family_of(protocol: str) -> str:
    """The family that a protocol is a member of, "" for one with a file of its own."""
    path, _ = _members().get(protocol, (None, None))
    return "" if path is None else path.name.removesuffix(SUFFIX)


@cache
def load_protocol(name: str) -> Protocol:
    """Load a protocol by name (a family's member too), or by the path of a TOML file, then known by its name too.

    Raises:
        ProtocolError: If it is unknown, is not valid TOML, has an unknown, missing or refused key, or has the
            name of another one.
    """
    if name in _by_path:
        return _by_path[name]
    if name in _members():
        member_path, rules = _members()[name]
        return _load(Protocol, member_path, rules, name)
    path = _find(name, PROTOCOL_DIR, "protocol")
    protocol = _load(Protocol, path, _resolve(path))
    if path.parent != PROTOCOL_DIR:
        is_ours = (PROTOCOL_DIR / path.name).exists() or protocol.name in _members()
        if is_ours or _by_path.setdefault(protocol.name, protocol) != protocol:  # a refused file is known by no name
            raise ProtocolError(f"{path}: the name {protocol.name!r} is taken by another protocol; rename the file")
    return protocol


_by_path: dict[str, Protocol] = {}


def load_beside(path: Path, name: str) -> Protocol:
    """The protocol that a file names: one of the suite, one in a file beside it, or the path of a TOML file.

    Raises:
        ProtocolError: As `load_protocol`.
    """
    known = name in _members() or name in list_protocols()
    return load_protocol(name if known else str(_find(name, PROTOCOL_DIR, "protocol", beside=path.parent)))


def would_be(path: Path, content: Rules) -> Protocol:
    """The protocol of a file with this content, whether it is there or not; its name is known to nobody yet.

    Raises:
        ProtocolError: As `load_protocol`; also if a protocol of the suite has the name.
    """
    if path.stem in (*list_protocols(), *_members()):
        raise ProtocolError(f"{path}: the name {path.stem!r} is taken by a protocol of the suite; choose another")
    return _load(Protocol, path, _extended(path, content))


@cache
def load_study(name: str) -> Study:
    """Load a study by name, or by the path of a TOML file.

    Raises:
        ProtocolError: As `load_protocol`; also if it names an unknown protocol.
    """
    path = _find(name, STUDY_DIR, "study")
    study = _load(Study, path, read_toml(path))
    study = study.model_copy(update={"parts": tuple(one for part in study.parts for one in _spelled_out(part))})
    for part in study.parts:
        for protocol in part.protocols:
            load_beside(path, protocol)
    return study


def _spelled_out(part: StudyPart) -> list[StudyPart]:
    """A part as one a draw, each of the members with that draw and of the seed with its number."""
    if not part.draws:
        return [part]
    names = {draw: tuple(with_draw(protocol, draw) for protocol in part.protocols) for draw in part.draws}
    return [part.model_copy(update={"protocols": names[draw], "seeds": (draw,), "draws": ()}) for draw in part.draws]


def list_protocols() -> list[str]:
    """Names of the protocols that come with the suite as a file each, sorted; `families` has the others."""
    return _stems(PROTOCOL_DIR)


def list_studies() -> list[str]:
    """Names of the studies that come with the suite, sorted."""
    return _stems(STUDY_DIR)
