"""A recipe of one's own: a TOML file that extends a protocol and sets some of its keys."""

from __future__ import annotations

import contextlib
import json
import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import ProtocolError
from bench.protocols.families import Rules, merge
from bench.protocols.loading import family_of, load_protocol, would_be
from bench.protocols.schema import Protocol

KEY = re.compile(r"[a-z_]+(\.[A-Za-z0-9_-]+)*")
WORD = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")
BARE = re.compile(r"[A-Za-z0-9_-]+")  # a key that TOML takes without quotes
OWN_KEYS = ("name", "extends")  # which the file's name and --extends say
PROSE = ("description", "sources", "tuned")  # outside the digest


@dataclass(frozen=True)
class NewProtocol:
    """A protocol that was written.

    Attributes:
        path: Its file.
        protocol: Its rules.
        changes: What differs from the protocol that it extends: `schedule.epochs: 30 -> 40`.
    """

    path: Path
    protocol: Protocol
    changes: list[str]


def new_protocol(path: Path, parent: str, settings: Sequence[str]) -> NewProtocol:
    """Write a file that extends a protocol; nothing that is there is written over.

    Args:
        path: The file, whose stem is the new name.
        parent: The protocol that it extends, by name or file.
        settings: `KEY=VALUE` each, the value as TOML has it; a word may do without quotes.

    Raises:
        ProtocolError: If a name is taken or unknown, a key or value is refused, nothing changes, or the file cannot be
            written.
    """
    if path.suffix != ".toml":
        raise ProtocolError(f"{path}: the file of a protocol ends in .toml; its name is the protocol's")
    base = load_protocol(parent)
    if family := family_of(base.name):
        raise ProtocolError(f"{base.name} is a member of the family {family}, which cannot be extended; choose another")
    rules: Rules = {}
    for setting in settings:
        rules = merge(rules, setting_rules(setting))
    said = ", ".join(f"{key} = {_toml(value)}" for key, value in flat(rules) if key not in PROSE)
    content = {"extends": _reference(path, parent), "description": f"{base.name} with {said}", **rules}
    protocol = would_be(path, content)
    changes = differences(base, protocol)
    if not changes:
        raise ProtocolError(f"{path}: nothing differs from {base.name}; give --set KEY=VALUE that changes a rule")
    text = toml_text(content)
    assert tomllib.loads(text) == content, "what is written is what was checked"
    try:
        with path.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        raise ProtocolError(f"{path} is there already; a protocol is frozen under its name: choose another") from None
    except OSError as error:
        raise ProtocolError(f"Cannot write {path}: {error.strerror}") from None
    return NewProtocol(path, protocol, changes)


def _reference(path: Path, parent: str) -> str:
    """How a file names the protocol that it extends: by name, one beside it too, else by its whole path."""
    if not parent.endswith(".toml"):
        return parent
    file = Path(parent).resolve()
    return file.stem if file.parent == path.resolve().parent else str(file)


def setting_rules(setting: str) -> Rules:
    """`schedule.epochs=40` as tables: {"schedule": {"epochs": 40}}.

    Raises:
        ProtocolError: If it is no key and value.
    """
    key, sign, text = (part.strip() for part in setting.partition("="))
    if not sign or not KEY.fullmatch(key):
        raise ProtocolError(f"--set {setting[:60]!r} is refused; write KEY=VALUE, for instance schedule.epochs=40")
    if key in OWN_KEYS:
        raise ProtocolError(f"--set {key} is refused: the file's name is the protocol's, and --extends names the other")
    return dotted_rules(key, _value(key, text))


def dotted_rules(key: str, value: Any) -> Rules:
    """A dotted key and its value as tables: {"schedule": {"epochs": 40}}."""
    *tables, last = key.split(".")
    rules: Rules = {last: value}
    for table in reversed(tables):
        rules = {table: rules}
    return rules


def _value(key: str, text: str) -> Any:
    with contextlib.suppress(tomllib.TOMLDecodeError, RecursionError, ValueError, TypeError):
        if "\n" not in text:
            value = tomllib.loads(f"value = {text}")["value"]
            json.dumps(value)  # no rule is a date, which JSON does not have
            return value
    if WORD.fullmatch(text):
        return text
    raise ProtocolError(f"--set {key}={text[:40]!r} is refused; write a number, true, false, a word, or [1, 2]")


def flat(rules: Rules, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The keys of all tables, dotted."""
    for key, value in rules.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def differences(base: Protocol, other: Protocol) -> list[str]:
    """The rules that differ, a line each; name and prose are no rules."""
    exclude = {"name", *PROSE}
    before, after = (dict(flat(each.model_dump(mode="json", exclude=exclude))) for each in (base, other))
    keys = [*after, *(key for key in before if key not in after)]
    return [f"{key}: {before.get(key)} -> {after.get(key)}" for key in keys if before.get(key) != after.get(key)]


def toml_text(content: Rules) -> str:
    """Tables as TOML; numbers, truths, texts, lists and tables of them."""
    return "\n".join(_lines(content, ())).lstrip("\n") + "\n"


def _lines(table: Rules, name: tuple[str, ...]) -> Iterator[str]:
    plain = {key: value for key, value in table.items() if not isinstance(value, dict)}
    if name and plain:
        yield f"\n[{'.'.join(map(_toml_key, name))}]"
    yield from (f"{_toml_key(key)} = {_toml(value)}" for key, value in plain.items())
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _lines(value, (*name, key))


def _toml_key(key: str) -> str:
    return key if BARE.fullmatch(key) else json.dumps(key)


def _toml(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return repr(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False)
