import numpy as np
import pytest
from matplotlib.image import imread

from cifl_tf.figures.features import feature_figure, synthesis_figure
from cifl_tf.figures.panels import curve_figure, figure_pixels, save_figure
from cifl_tf.figures.registration import RegisteredSlice, registration_figure
from cifl_tf.figures.segmentation import segmentation_figure


def test_feature_figure_shows_every_contrast_and_channel(rng, tmp_path):
    images = {name: rng.random((30, 40)) for name in ("T1", "inverted", "folded")}
    features = {name: rng.normal(size=(30, 40, 5)) for name in images}
    figure = feature_figure(images, features, num_channels=4)
    axes = np.array(figure.axes).reshape(3, 5)
    assert [row[0].get_ylabel() for row in axes] == list(images)
    shown = axes[1, 2].images[0]
    np.testing.assert_array_equal(shown.get_array(), features["inverted"][..., 1].T)
    scales = {axes[row, 2].images[0].get_clim() for row in range(3)}
    assert len(scales) == 1
    low, high = scales.pop()
    assert low == -high
    save_figure(figure, tmp_path / "new" / "features.png")
    assert imread(tmp_path / "new" / "features.png").ndim == 3


def test_feature_figure_refuses_other_names(rng):
    image, features = rng.random((8, 8)), rng.random((8, 8, 2))
    with pytest.raises(ValueError, match=r"T1.*T2"):
        feature_figure({"T1": image}, {"T2": features})


def test_synthesis_figure_has_a_column_per_map(rng):
    labels = rng.integers(16, size=(3, 20, 24))
    views = rng.random((2, 3, 20, 24))
    axes = np.array(synthesis_figure(labels, *views).axes).reshape(3, 3)
    assert [row[0].get_ylabel() for row in axes] == ["labels", "contrast 1", "contrast 2"]
    np.testing.assert_array_equal(axes[2, 1].images[0].get_array(), views[1, 1].T)


def test_segmentation_figure_shows_every_method_beside_the_truth(rng):
    images = {name: rng.random((20, 24)) for name in ("T1w", "FLAIR")}
    truth = rng.integers(5, size=(20, 24))
    found = {
        method: {name: rng.integers(5, size=(20, 24)) for name in images} for method in ("a", "b")
    }
    axes = np.array(segmentation_figure(images, truth, found).axes).reshape(2, 4)
    assert [panel.get_title() for panel in axes[0]] == ["image", "labels", "a", "b"]
    assert [row[0].get_ylabel() for row in axes] == ["T1w", "FLAIR"]
    for panel, labels in ((axes[1, 1], truth), (axes[1, 3], found["b"]["FLAIR"])):
        shown = panel.images[0].get_array()
        np.testing.assert_array_equal(shown.filled(0), labels.T)
        np.testing.assert_array_equal(shown.mask, labels.T == 0)
    with pytest.raises(ValueError, match="b has"):
        segmentation_figure(images, truth, {**found, "b": {"T1w": truth}})


def test_registration_figure_shows_before_and_after(rng):
    fixed, moving, warped = rng.random((3, 24, 32))
    still = RegisteredSlice(fixed, moving, warped, np.zeros((24, 32, 2)), (2.0, 1.0))
    moved = RegisteredSlice(fixed, moving, warped, 3 * rng.random((24, 32, 2)))
    figure = registration_figure({"coronal 5": still, "axial 3": moved})
    axes = np.array(figure.axes).reshape(2, 7)
    assert [row[0].get_ylabel() for row in axes] == ["coronal 5", "axial 3"]
    assert [panel.get_title() for panel in axes[0]][:3] == ["fixed", "moving", "warped"]
    shown = [np.asarray(panel.images[0].get_array()).T for panel in axes[0]]
    for image, expected in zip(shown, (fixed, moving, warped), strict=False):
        np.testing.assert_array_equal(image, expected)
    for image, other in ((shown[3], moving), (shown[4], warped)):
        # Half of the tiles, of 48 / 8 mm: 3 voxels along the first axis, 6 along the second.
        assert np.mean(image == other) == pytest.approx(0.5, abs=0.05)
        np.testing.assert_array_equal(image[:3, :6], fixed[:3, :6])
        np.testing.assert_array_equal(image[3:6, :6], other[3:6, :6])
    assert axes[0, 0].get_aspect() == 0.5

    def bend(panel):
        """How far the lines leave the straight, in voxels."""
        lines = [path for kind in panel.collections for path in kind.get_paths()]
        return max(
            min(np.ptp(part.vertices, axis=0))
            for path in lines
            for part in path._iter_connected_components()
        )

    assert bend(axes[0, 5]) < 1e-6
    assert bend(axes[1, 5]) > 0.5
    with pytest.raises(ValueError, match="no slices"):
        registration_figure({})


def test_registration_figure_shows_the_logarithm_of_the_jacobian(rng):
    images = rng.random((3, 24, 32))
    twice = np.moveaxis(np.indices((24, 32)), 0, -1) * (1, 0)
    given = np.full((24, 32), np.exp(-0.5))
    given[:5] = -0.1
    slices = {
        "of the slice": RegisteredSlice(*images, twice),
        "of the volume": RegisteredSlice(*images, twice, jacobian=given),
    }
    axes = np.array(registration_figure(slices).axes).reshape(2, 7)
    assert axes[0, 6].get_title() == "log Jacobian, ±1"
    doubled, shrunk = (row[6].images[0].get_array() for row in axes)
    np.testing.assert_allclose(doubled, np.log(2))
    np.testing.assert_array_equal(np.ma.getmaskarray(shrunk), given.T < 0)
    np.testing.assert_allclose(shrunk.compressed(), -0.5)


def test_edges_of_the_fixed_image_are_drawn_over_the_others():
    radius = np.linalg.norm(np.moveaxis(np.indices((40, 30)), 0, -1) - [20, 15], axis=-1)
    disc = (radius < 9).astype(float)
    one = RegisteredSlice(disc, 1 - disc, np.zeros_like(disc), np.zeros((40, 30, 2)))
    panels = registration_figure({"": one}).axes
    for panel in panels[1:3]:
        vertices = np.concatenate([path.vertices for path in panel.collections[0].get_paths()])
        assert len(vertices) > 30
        # The second axis of the array is upwards.
        np.testing.assert_allclose(np.linalg.norm(vertices - [20, 15], axis=1), 9, atol=2)
    assert not panels[0].collections


@pytest.mark.parametrize("count", [1, 3])
def test_curve_figure_has_a_panel_per_curve(rng, tmp_path, count):
    steps = [100, 200, 350]
    names = ["pair_similarity", "loss", "channel_similarity"][:count]
    curves = {name: rng.random(3) - index / 2 for index, name in enumerate(names)}
    figure = curve_figure(steps, curves)
    assert [panel.get_title() for panel in figure.axes] == [n.replace("_", " ") for n in names]
    for panel, values in zip(figure.axes, curves.values(), strict=True):
        (line,) = panel.lines
        np.testing.assert_array_equal(line.get_xdata(), steps)
        np.testing.assert_array_equal(line.get_ydata(), values)
        assert panel.get_xlabel() == "step"
        low, high = panel.get_ylim()
        # From zero, unless a value lies below it; all of them are seen.
        assert low == 0 if values.min() > 0 else low < values.min()
        assert high > values.max()
    save_figure(figure, tmp_path / "curves.png")
    assert imread(tmp_path / "curves.png").std() > 0.05


def test_first_axis_points_right_and_second_up():
    image = np.zeros((20, 30))
    image[-3:, -3:] = 1
    features = np.zeros((20, 30, 2))
    figure = feature_figure({"T1": image}, {"T1": features})
    pixels = figure_pixels(figure, dpi=100)[..., :3].mean(axis=-1)
    box = figure.axes[0].get_window_extent()
    height = pixels.shape[0]
    panel = pixels[height - int(box.y1) : height - int(box.y0), int(box.x0) : int(box.x1)]
    rows, columns = np.nonzero(panel[2:-2, 2:-2] > 200)
    assert rows.max() < panel.shape[0] / 3
    assert columns.min() > panel.shape[1] * 2 / 3
