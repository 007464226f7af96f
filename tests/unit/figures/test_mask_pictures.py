import warnings

import nibabel
import numpy as np
import pytest
from matplotlib.image import imread

from cifl_tf.figures.masks import save_mask_picture


def test_the_outline_is_red_on_a_gray_image(tmp_path, rng):
    data = rng.random((30, 20, 12)).astype(np.float32)
    mask = np.zeros(data.shape, np.uint8)
    mask[8:22, 5:15, 3:9] = 1
    affine = np.array([[0, 2.0, 0, 0], [-2, 0, 0, 9], [0, 0, 5, 0], [0, 0, 0, 1]])
    images = [nibabel.Nifti1Image(one, affine) for one in (data, mask)]
    save_mask_picture(*images, tmp_path / "new" / "mask.png")
    red, green, blue, _ = np.moveaxis(imread(tmp_path / "new" / "mask.png"), -1, 0)
    assert ((red > 0.8) & (green < 0.3) & (blue < 0.3)).sum() > 200
    assert ((red == green) & (green == blue) & (red > 0.2) & (red < 0.8)).sum() > 10_000


@pytest.mark.parametrize("shape", [(30, 24, 1), (1, 30, 24), (30, 1, 24), (30, 24, 2), (1, 1, 30)])
@pytest.mark.parametrize("empty", [True, False])
def test_volumes_of_few_slices_have_a_picture(tmp_path, rng, shape, empty):
    mask = np.zeros(shape, np.uint8)
    if not empty:
        mask[tuple(slice(size // 4, size - size // 4) for size in shape)] = 1
    images = [
        nibabel.Nifti1Image(one, np.diag([2, 2, 2, 1]))
        for one in (rng.random(shape).astype(np.float32), mask)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save_mask_picture(*images, tmp_path / "mask.png")
    picture = imread(tmp_path / "mask.png")
    assert max(picture.shape) < 4000
    red = (picture[..., 0] > 0.8) & (picture[..., 1] < 0.3) & (picture[..., 2] < 0.3)
    assert red.any() != empty
