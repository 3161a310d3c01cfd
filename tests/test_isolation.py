"""What one test loads from a file of its own, no other test knows."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.data import own
from bench.errors import ProtocolError
from bench.protocols.loading import PROTOCOL_DIR, load_protocol
from models import ModelError, get_spec, load_plugin
from tests.own_data import write_set

NET = "from models import register_model\n\n\n@register_model()\ndef isolated_net(**sizes):\n    return None\n"


@pytest.mark.parametrize("time", ["first", "second"])
def test_a_name_of_a_file_is_free_in_the_next_test(tmp_path: Path, time: str) -> None:
    """A model, a protocol and a data set of the same names in other files: refused if they were still known."""
    with pytest.raises(ModelError):
        get_spec("isolated_net")
    with pytest.raises(ProtocolError):
        load_protocol("isolated")
    assert own._cards == {}
    (tmp_path / "isolated_net.py").write_text(f"{NET}\n\n# {time}\n", encoding="utf-8")
    assert load_plugin(tmp_path / "isolated_net.py") == ["isolated_net"]
    rate = {"first": "1e-3", "second": "2e-3"}[time]
    text = (PROTOCOL_DIR / "smoke.toml").read_text(encoding="utf-8")
    assert "lr = 1e-3" in text
    (tmp_path / "isolated.toml").write_text(text.replace("lr = 1e-3", f"lr = {rate}"), encoding="utf-8")
    load_protocol(str(tmp_path / "isolated.toml"))
    assert load_protocol("isolated").optim.lr == float(rate)
    own.resolve(str(write_set(tmp_path)))
