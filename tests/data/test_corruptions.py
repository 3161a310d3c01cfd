"""The pixels of the corruption track: reproducible one by one, and on real data as severe as they are called."""

from __future__ import annotations

import hashlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage, stats

from bench.classical import nearest_index
from bench.data import synthetic
from bench.data.corruptions import DRAWN, FIXED, chosen_images, corrupt
from bench.data.loading import load
from bench.data.track_card import structural_similarity
from bench.errors import DataError
from bench.stats.delong import auc_influence
from bench.stats.seed_variance import FITTED
from bench.stats.uncertainty import area_interval, of_mean
from bench.tracks.loading import load_track
from bench.tracks.schema import CORRUPTIONS, SEVERITIES, cells

TRACK = load_track("c28")
GRAY, COLOUR = "synthetic-breastmnist", "synthetic-bloodmnist"
IMAGES = {name: synthetic.make(name, 28)["test_images"] for name in (GRAY, COLOUR)}
BOTH = pytest.mark.parametrize("name", [GRAY, COLOUR])
# Noise is NumPy's: a new version may move it, and every record says which pixels it saw.
GOLDEN = {
    GRAY: "2c45af93e65e3fca1b44a60021358504ac822fc4a4d80eac44ce5b64e0a724fd",
    COLOUR: "29a8bee5dfc839781e7cb7c118ccd29f48980575292606ba8646a3dfe915ae7a",
}


def made(name, cell, indices=None):
    """A cell of a stand-in."""
    chosen = np.arange(len(IMAGES[name])) if indices is None else np.asarray(indices)
    return corrupt(IMAGES[name][chosen], chosen, TRACK, name, cell)


def flat(value, size=28, count=200):
    """Images of one value."""
    return np.full((count, size, size), value, dtype=np.uint8)


@BOTH
def test_every_cell_gives_uint8_of_the_same_shape_and_leaves_its_input(name):
    """Gray stays gray and colour colour."""
    before = IMAGES[name].copy()
    for cell in cells():
        found = made(name, cell)
        assert (found.dtype, found.shape) == (np.uint8, before.shape)
        assert (found != before).any(), cell
    assert np.array_equal(before, IMAGES[name])


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from([GRAY, COLOUR]),
    st.sampled_from(sorted(cells())),
    st.lists(st.integers(0, len(IMAGES[GRAY]) - 1), min_size=1, max_size=5),
)
def test_an_image_has_the_same_pixels_in_any_batch_and_order(name, cell, indices):
    """Whatever model or engine asks: alone, repeated or shuffled, they are those of the whole split."""
    assert np.array_equal(made(name, cell, indices), made(name, cell)[indices])


@BOTH
def test_chance_follows_from_the_names(name):
    """Another data set, severity or index draws otherwise; the same again draws the same."""
    image = np.full((2, 28, 28), 128, dtype=np.uint8)
    cell = ("gaussian_noise", 3)
    here, there = (corrupt(image, [0, 1], TRACK, dataset, cell) for dataset in (GRAY, "synthetic-pneumoniamnist"))
    assert np.array_equal(here, corrupt(image, [0, 1], TRACK, GRAY, cell))
    assert not np.array_equal(here[0], here[1])
    assert not np.array_equal(here, there)
    assert np.array_equal(made(name, cell), made(name, cell))


@BOTH
def test_pixels_are_those_that_records_were_made_with(name):
    """Without JPEG, whose bytes are Pillow's."""
    parts = [made(name, cell).tobytes() for cell in cells() if cell[0] != "jpeg"]
    assert hashlib.sha256(b"".join(parts)).hexdigest() == GOLDEN[name]


def test_gray_noise_has_the_sigma_that_is_written():
    """Drawn once a pixel: averaging three draws of an RGB copy would leave 58 % of it."""
    for severity, sigma in zip(SEVERITIES, TRACK.severities("breastmnist")["gaussian_noise"], strict=True):
        noise = corrupt(flat(128), range(200), TRACK, GRAY, ("gaussian_noise", severity)) / 255 - 128 / 255
        normal = sigma * stats.norm.ppf((np.arange(10_000) + 0.5) / 10_000)
        assert noise.std() == pytest.approx(np.clip(normal, -128 / 255, 127 / 255).std(), rel=0.02)


def test_shot_noise_has_a_poissons_variance():
    """Half of white at 200 photons: 100 expected, so a relative deviation of 1/10."""
    found = corrupt(flat(128), range(200), TRACK, GRAY, ("shot_noise", 1)) / 128
    assert found.mean() == pytest.approx(1.0, abs=0.005)
    assert found.std() == pytest.approx(1 / np.sqrt(200 * 128 / 255), rel=0.03)


def test_speckle_grows_with_the_value():
    """A standard deviation of a tenth of the value; black stays black."""
    found = corrupt(flat(100), range(200), TRACK, GRAY, ("speckle_noise", 1))
    assert found.std() == pytest.approx(10, rel=0.03)
    assert not corrupt(flat(0), range(200), TRACK, GRAY, ("speckle_noise", 1)).any()


def test_impulses_are_half_black_half_white():
    """8 % of the values at the highest severity, the others untouched."""
    found = corrupt(flat(100), range(200), TRACK, GRAY, ("impulse_noise", 5))
    shares = [float((found == value).mean()) for value in (0, 100, 255)]
    assert shares == pytest.approx([0.04, 0.92, 0.04], abs=0.003)


def test_motion_blur_spreads_a_point_along_a_line_of_its_own_and_does_not_move_it():
    """On gray images too: the centre of mass stays, the spread is sigma along and none across, one angle an image."""
    images = np.zeros((8, 28, 28), dtype=np.uint8)
    images[:, 14, 14] = 255
    found = corrupt(images, range(8), TRACK, GRAY, ("motion_blur", 1)).astype(float)
    rows, columns = np.mgrid[:28, :28] - 14
    mass = found.sum(axis=(1, 2))
    assert np.abs((found * rows).sum(axis=(1, 2)) / mass).max() < 0.05
    assert np.abs((found * columns).sum(axis=(1, 2)) / mass).max() < 0.05
    spread = (found * (rows**2 + columns**2)).sum(axis=(1, 2)) / mass
    assert spread == pytest.approx(
        np.full(8, 1.0), abs=0.45
    )  # a little more: between pixels bilinear weights spread too
    assert len({image.tobytes() for image in found}) == 8


def test_gaussian_blur_is_scipys_an_image_at_a_time():
    """No image and no channel runs into the next."""
    sigma = TRACK.severities("breastmnist")["gaussian_blur"][4]
    alone = ndimage.gaussian_filter(IMAGES[GRAY][3].astype(float), sigma, mode="nearest")
    assert np.array_equal(made(GRAY, ("gaussian_blur", 5))[3], np.rint(alone))
    red = ndimage.gaussian_filter(IMAGES[COLOUR][3, :, :, 0].astype(float), sigma, mode="nearest")
    assert np.array_equal(made(COLOUR, ("gaussian_blur", 5))[3, :, :, 0], np.rint(red))


@BOTH
def test_pixelate_is_the_mean_of_each_cells_area(name):
    """A border inside a pixel splits it by area; 14 cells, of whole pixels, are Pillow's box up to its rounding."""
    for severity, count in zip(SEVERITIES, TRACK.severities("breastmnist")["pixelate"], strict=True):
        cells_a_side = int(count)
        fine = IMAGES[name].repeat(cells_a_side, axis=1).repeat(cells_a_side, axis=2)  # 28 of these make a cell's side
        blocks = fine.reshape(len(fine), cells_a_side, 28, cells_a_side, 28, -1).mean(axis=(2, 4))
        centre = ((2 * np.arange(28) + 1) * cells_a_side) // 56
        expected = np.floor(blocks + 0.5)[:, centre][:, :, centre].reshape(IMAGES[name].shape)
        assert np.array_equal(made(name, ("pixelate", severity)), expected)
    box = Image.Resampling.BOX
    theirs = np.stack(
        [np.asarray(Image.fromarray(i).resize((14, 14), box).resize((28, 28), box)) for i in IMAGES[name]]
    )
    assert np.abs(made(name, ("pixelate", 4)).astype(int) - theirs).max() <= 1


def test_jpeg_is_pillows():
    """Gray as gray, at the quality that is written."""
    stream = io.BytesIO()
    Image.fromarray(IMAGES[GRAY][2]).save(stream, "JPEG", quality=7)
    assert np.array_equal(made(GRAY, ("jpeg", 5))[2], np.asarray(Image.open(stream)))


def test_photometry_by_hand():
    """Brightness times a factor, contrast around the mean, gamma by the share of white; cut at black and white."""
    image = np.zeros((1, 28, 28), dtype=np.uint8)
    image[0, :14], image[0, 14:] = 100, 200  # the mean is 150
    for corruption, severity, expected in (
        ("brightness_up", 1, (140, 255)),
        ("brightness_down", 2, (50, 100)),
        ("contrast_up", 5, (70, 230)),
        ("contrast_down", 5, (130, 170)),
        ("gamma_up", 5, (round(255 * (100 / 255) ** 1.6), round(255 * (200 / 255) ** 1.6))),
        ("gamma_down", 5, (round(255 * (100 / 255) ** 0.4), round(255 * (200 / 255) ** 0.4))),
    ):
        found = corrupt(image, [0], TRACK, GRAY, (corruption, severity))[0]
        assert (int(found[0, 0]), int(found[27, 27])) == expected, corruption


def test_contrast_of_colour_turns_around_its_brightness():
    """Pure green 100 is as bright as 58.7: channels move away from that."""
    image = np.zeros((1, 28, 28, 3), dtype=np.uint8)
    image[..., 1] = 100
    found = corrupt(image, [0], TRACK, COLOUR, ("contrast_down", 5))[0, 0, 0]
    assert found.tolist() == [round(58.7 * 0.5), round(58.7 + 0.5 * 41.3), round(58.7 * 0.5)]


def test_every_corruption_has_its_code():
    """By its name, once."""
    assert sorted([*DRAWN, *FIXED]) == sorted(CORRUPTIONS)


def test_large_sets_give_a_draw_of_their_test_images():
    """The same for every model, rising, without a repetition; small sets give all."""
    assert np.array_equal(chosen_images(TRACK, "breastmnist", 156), np.arange(156))
    drawn = chosen_images(TRACK, "organcmnist", 8216)
    assert len(drawn) == TRACK.max_images
    assert (np.diff(drawn) > 0).all()
    assert drawn.max() < 8216
    assert not np.array_equal(drawn, chosen_images(TRACK, "organsmnist", 8216))


def test_what_a_track_does_not_have_is_refused():
    """A data set, a severity, or images of another size."""
    with pytest.raises(DataError, match="octmnist"):
        corrupt(flat(1), range(200), TRACK, "octmnist", ("jpeg", 1))
    with pytest.raises(DataError, match="severity 6"):
        corrupt(flat(1), range(200), TRACK, GRAY, ("jpeg", 6))
    with pytest.raises(DataError, match="28 px"):
        corrupt(flat(1, 64), range(200), TRACK, GRAY, ("jpeg", 1))
    with pytest.raises(DataError, match="3 indices"):
        corrupt(flat(1), range(3), TRACK, GRAY, ("jpeg", 1))


# Normal chests have more contrast than those with pneumonia, and 1-NN calls too many images pneumonia: more contrast
# brings its two recalls nearer to each other. It stays in the track, whose corruptions were not chosen by what they do.
RISES = {"breastmnist": set(), "pneumoniamnist": {"contrast_up"}}


@pytest.fixture(scope="module", params=["breastmnist", "pneumoniamnist"])
def real(request):
    """A real set, and its corrupted test images by cell."""
    try:
        arrays = load(request.param, 28, download=False)
    except DataError as error:
        pytest.skip(str(error))
    images = arrays.images["test"]
    indices = np.arange(len(images))
    return arrays, {cell: corrupt(images, indices, TRACK, request.param, cell) for cell in cells()}


@pytest.mark.data
def test_images_get_less_like_their_source_with_every_severity(real):
    """Mean SSIM falls from each severity to the next, for every corruption."""
    arrays, pixels = real
    for corruption in CORRUPTIONS:
        values = [
            1.0,
            *(structural_similarity(arrays.images["test"], pixels[corruption, s]).mean() for s in SEVERITIES),
        ]
        assert values == sorted(set(values), reverse=True), corruption


@pytest.mark.data
def test_hardly_an_image_is_lost_whole(real):
    """Under 0.1 % of all corrupted images have one value alone, and under half of any cell's pixels are cut."""
    _, pixels = real
    constant = [np.ptp(cell.reshape(len(cell), -1), axis=1) == 0 for cell in pixels.values()]
    assert np.concatenate(constant).mean() < 0.001
    for cell, found in pixels.items():
        assert ((found == 0) | (found == 255)).mean() < 0.5, cell


@pytest.mark.data
def test_no_corruption_makes_the_floor_better(real):
    """The AUC of 1-NN falls, and no corruption lifts it above its clean 95 % interval but the one that is named."""
    arrays, pixels = real
    train = arrays.images["train"].reshape(len(arrays.labels["train"]), -1)
    labels = arrays.labels["test"]

    def floor(images):
        nearest = nearest_index(train, images.reshape(len(images), -1))
        return auc_influence(labels, np.eye(2)[arrays.labels["train"][nearest]][None], "binary-class")

    clean = floor(arrays.images["test"])
    uncertainty = of_mean(clean.covariance(), FITTED, clean.degrees())
    highest = area_interval(float(clean.values[0]), uncertainty, int(np.bincount(labels).min()))[1]
    means = {c: np.mean([floor(pixels[c, severity]).values[0] for severity in SEVERITIES]) for c in CORRUPTIONS}
    assert np.mean(list(means.values())) < clean.values[0]
    assert {corruption for corruption, mean in means.items() if mean >= highest} == RISES[arrays.info.name]
