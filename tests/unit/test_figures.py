import numpy as np
import pytest
from matplotlib.image import imread

from cifl_tf.figures import feature_figure, figure_pixels, save_figure, synthesis_figure


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
