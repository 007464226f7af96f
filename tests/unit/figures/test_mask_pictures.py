import nibabel
import numpy as np
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
