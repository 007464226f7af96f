import numpy as np
import pytest
import scipy.ndimage

from cifl_tf import warp
from cifl_tf.registration.syn import register_syn

ants = pytest.importorskip("ants", reason="ANTsPy is an optional extra")


def blobs(shape, seed=0):
    noise = scipy.ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 3)
    image = (noise - noise.min()) / np.ptp(noise)
    inside = np.ones(shape)
    for axis in range(len(shape)):
        inside = inside * np.expand_dims(
            np.hanning(shape[axis]), [other for other in range(len(shape)) if other != axis]
        )
    return (image * inside**0.3).astype(np.float32)


@pytest.mark.parametrize("shape", [(48, 40), (32, 28, 24)])
def test_a_shift_is_undone_across_an_inversion(shape):
    fixed = blobs(shape)
    shift = np.zeros((*shape, len(shape)), np.float32)
    shift[..., 0] = 2
    moving = warp(fixed, shift)  # what fixed has at x, moving has at x - 2
    displacement = register_syn(moving, 1 - fixed)
    inner = tuple(slice(size // 4, -(size // 4)) for size in shape)
    assert displacement.shape == shift.shape
    assert abs(displacement[inner][..., 0].mean() + 2) < 0.4
    assert np.abs(displacement[inner][..., 1:].mean()) < 0.4
    error = np.abs(warp(moving, displacement) - fixed)[inner].mean()
    assert error < 0.7 * np.abs(moving - fixed)[inner].mean()


def test_batches_are_registered_pair_by_pair():
    images = np.stack([blobs((32, 32), seed) for seed in range(3)])[..., None]
    batch = register_syn(images[:2], images[1:])
    assert batch.shape == (2, 32, 32, 2)
    np.testing.assert_allclose(
        batch[1], register_syn(images[1, ..., 0], images[2, ..., 0]), atol=1e-4
    )
