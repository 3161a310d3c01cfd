"""A track's TOML: whole, severities that rise, a digest of what decides one data set's pixels."""

from __future__ import annotations

import itertools

import pytest

from bench.data.names import PAPER_DATASETS
from bench.errors import ProtocolError
from bench.tracks.loading import TRACK_DIR, list_tracks, load_track, read_track
from bench.tracks.schema import CORRUPTIONS, FALLING, SEVERITIES, cells

TEXT = (TRACK_DIR / "c28.toml").read_text(encoding="utf-8")
# Of every data set, as they stood when the first records were made: a changed track is a new file.
DIGESTS = {
    "bloodmnist": "ed3a4656c50de88ed18567c1d333c270aa92ba458e50e30368c269fb404798c4",
    "breastmnist": "17a87baa839781f4b4b3db8043a0c7261fd20c9e2743146c780fb69d93c30206",
    "dermamnist": "177421d1054fed33821bfe38a6c8ba96b0bc3a78d6748199a6268aa21b5fddee",
    "organcmnist": "73f05bd965641e3f7af3bf347cb1658e2562a64323d5421fb556a5f3c4f16efa",
    "organsmnist": "73f05bd965641e3f7af3bf347cb1658e2562a64323d5421fb556a5f3c4f16efa",
    "pneumoniamnist": "e76796f1a79229ecd3999b19ddd95b99a286da6b2203951673c3aecbf1c0cdcd",
}


def changed(tmp_path, old, new):
    """The track's file with a piece of text replaced."""
    assert TEXT.count(old) == 1
    path = tmp_path / "mine.toml"
    path.write_text(TEXT.replace(old, new), encoding="utf-8")
    return path


def test_c28_is_fourteen_corruptions_at_five_severities_for_the_papers_sets():
    """Every one of the six sets has all seventy cells."""
    track = load_track("c28")
    assert set(track.datasets) == set(PAPER_DATASETS)
    assert len(CORRUPTIONS) == 14
    assert len(set(cells())) == 70
    for flag in track.datasets:
        assert list(track.severities(flag)) == list(CORRUPTIONS)
        assert all(len(values) == len(SEVERITIES) for values in track.severities(flag).values())


def test_severities_rise():
    """Each list goes one way: more noise or blur, fewer photons, cells, bits, a factor further from 1."""
    track = load_track("c28")
    for flag, (name, values) in itertools.product(track.datasets, [(n, None) for n in CORRUPTIONS]):
        values = track.severities(flag)[name]
        assert list(values) == sorted(set(values), reverse=name in FALLING)


def test_a_group_changes_its_own_sets_alone():
    """Breast has its brightness, Pneumonia the one of all."""
    track = load_track("c28")
    assert track.severities("breastmnist")["brightness_up"] == (1.4, 1.5, 1.6, 1.8, 2.0)
    assert track.severities("pneumoniamnist")["brightness_up"] == (1.1, 1.2, 1.3, 1.4, 1.6)
    assert track.severities("pneumoniamnist")["gaussian_noise"] == (0.04, 0.05, 0.06, 0.07, 0.08)


@pytest.mark.parametrize("flag", sorted(DIGESTS))
def test_the_definition_is_frozen(flag):
    """A digest that moves makes every record of the track stale: give the changed track a new name."""
    assert load_track("c28").digest(flag) == DIGESTS[flag]


def test_the_digest_is_of_one_data_set(tmp_path):
    """Another set's severities move another digest; prose moves none."""
    track = load_track("c28")
    breast = read_track(changed(tmp_path, "[1.4, 1.5, 1.6, 1.8, 2.0]", "[1.4, 1.5, 1.6, 1.8, 2.1]"))
    assert breast.digest("breastmnist") != track.digest("breastmnist")
    assert breast.digest("pneumoniamnist") == track.digest("pneumoniamnist")
    assert read_track(changed(tmp_path, "# exponent", "# power")).digest("bloodmnist") == track.digest("bloodmnist")


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("jpeg = [50.0, 30.0, 15.0, 10.0, 7.0]", "jpeg = [50.0, 30.0, 30.0, 10.0, 7.0]", "jpeg"),
        ("shot_noise = [60.0, 25.0, 18.0, 10.0, 5.0]", "shot_noise = [5.0, 10.0, 18.0, 25.0, 60.0]", "shot_noise"),
        ("jpeg = [50.0, 30.0, 15.0, 10.0, 7.0]", "", "jpeg"),
        ('datasets = ["bloodmnist"]', 'datasets = ["bloodmnist", "dermamnist"]', "two groups"),
        ("max_images = 2048", "max_imags = 2048", "max_imag"),
        ("[parameters]", "[parameters", "TOML"),
    ],
)
def test_a_file_that_is_no_track_is_refused_in_one_line(tmp_path, old, new, reason):
    """The message names the file and what is wrong."""
    with pytest.raises(ProtocolError, match=reason) as raised:
        read_track(changed(tmp_path, old, new))
    assert str(raised.value).startswith(str(tmp_path / "mine.toml"))
    assert "\n" not in str(raised.value)


def test_an_unknown_track_is_answered_with_the_known_ones():
    """By the closest name."""
    with pytest.raises(ProtocolError, match="did you mean 'c28'"):
        load_track("c2")
    assert list_tracks() == ["c28"]
