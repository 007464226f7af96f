import nibabel
import numpy as np
import pytest

import cifl_tf
from cifl_tf.figures import features
from cifl_tf.figures.features import save_feature_picture


@pytest.fixture
def draw(monkeypatch, rng):
    """The panels of the picture of an image of this shape and of 4 channels, by rows; and both."""

    def run(shape, axis):
        figures = []
        monkeypatch.setattr(features, "save_figure", lambda figure, *_: figures.append(figure))
        image = nibabel.Nifti1Image(rng.random(shape).astype(np.float32), np.diag([2, 2, 3, 1]))
        volume = cifl_tf.read_volume(image)
        channels = rng.normal(size=(*shape, 4))
        save_feature_picture(volume, channels, "file.png", axis, num_channels=3)
        return np.array(figures[0].axes).reshape(-1, 4), volume.data, channels

    return run


@pytest.mark.parametrize(("axis", "plane"), [(0, "sagittal"), (1, "coronal"), (2, "axial")])
def test_the_slice_lies_in_the_plane_of_the_encoder(draw, axis, plane):
    (row,), volume, channels = draw((12, 14, 10), axis)
    name, place = row[0].get_ylabel().split("\n")
    assert name == plane
    index = int(place.split()[2]) // (2, 2, 3)[axis]
    for number, panel in enumerate(row[1:]):
        shown = panel.images[0].get_array()
        np.testing.assert_array_equal(shown, channels[..., number].take(index, axis).T)
    shown = np.asarray(row[0].images[0].get_array())
    assert np.corrcoef(shown.ravel(), volume.take(index, axis).T.ravel())[0, 1] > 0.98


def test_an_encoder_of_volumes_has_all_planes_on_one_scale_of_colors(draw):
    rows, _, _ = draw((12, 14, 10), None)
    planes = [row[0].get_ylabel().split("\n")[0] for row in rows]
    assert planes == ["sagittal", "coronal", "axial"]
    assert len({row[2].images[0].get_clim() for row in rows}) == 1


@pytest.mark.parametrize("axis", [1, None])
def test_a_single_slice_shows_alone(draw, axis):
    (row,), _, channels = draw((12, 1, 10), axis)
    np.testing.assert_array_equal(row[1].images[0].get_array(), channels[:, 0, :, 0].T)
