import numpy as np
import pytest

from cifl_tf.metrics import folding_fraction, jacobian_determinant, log_jacobian_std


def along_first_axis(values, width=3):
    """A 2D field whose first component depends on the first axis only."""
    field = np.zeros((len(values), width, 2))
    field[..., 0] = np.array(values)[:, None]
    return field


FOLDED = along_first_axis([0, 0, 0, -2, -4, -6, -6, -6, -6, -6])  # slopes 0 0 -1 -2 -2 -1 0 ...


def test_translation_changes_no_volume():
    for ndim in (2, 3):
        displacement = np.broadcast_to([1.5, -2, 7][:ndim], (*(4, 5, 6)[:ndim], ndim))
        np.testing.assert_array_equal(jacobian_determinant(displacement), 1)
        assert folding_fraction(displacement) == 0
        assert log_jacobian_std(displacement) == 0


@pytest.mark.parametrize("factor", [0.25, -0.5])
def test_scaling_scales_volume(factor):
    for ndim in (2, 3):
        grid = np.stack(np.indices((4, 5, 6)[:ndim]), axis=-1)
        np.testing.assert_array_equal(jacobian_determinant(factor * grid), (1 + factor) ** ndim)


def test_linear_fields_have_numpys_determinant(rng):
    for ndim in (2, 3):
        matrix = rng.normal(size=(ndim, ndim))
        displacement = np.stack(np.indices((4, 5, 6)[:ndim]), axis=-1) @ matrix.T
        measured = jacobian_determinant(displacement.astype(np.float32))
        assert measured.shape == (4, 5, 6)[:ndim]
        expected = np.linalg.det(np.eye(ndim) + matrix)
        np.testing.assert_allclose(measured, expected, rtol=1e-4, atol=1e-5)


def test_reflection_folds_everywhere():
    assert folding_fraction(-2 * np.indices((4, 5, 6))[0][..., None] * [1, 0, 0]) == 1


def test_folding_fraction():
    determinants = [1, 1, 0, -1, -1, 0, 1, 1, 1, 1]
    np.testing.assert_array_equal(jacobian_determinant(FOLDED), np.transpose([determinants] * 3))
    assert folding_fraction(FOLDED) == 0.4
    mask = np.zeros((10, 3), bool)
    mask[:5] = True
    assert folding_fraction(FOLDED, mask) == 3 / 5


def test_log_jacobian_std():
    stretched = along_first_axis([0, 0, 0, 0, 1, 2, 3, 4])  # slopes 0 0 0 1/2 1 1 1 1
    mask = np.ones((8, 3), bool)
    mask[:1] = mask[3] = False
    mask[6:] = False
    assert log_jacobian_std(stretched, mask) == pytest.approx(np.log(2) / 2)
    mask = np.zeros((10, 3), bool)
    mask[1:3] = True  # determinants 1 and 0
    assert log_jacobian_std(FOLDED, mask) == pytest.approx(-np.log(1e-9) / 2)


def test_errors():
    field = np.zeros((4, 5, 2))
    for wrong in (np.zeros((4, 5, 3)), np.zeros((2, 4, 5)), np.zeros((1, 4, 5, 2)), np.zeros(3)):
        with pytest.raises(ValueError, match="components last"):
            jacobian_determinant(wrong)
    with pytest.raises(ValueError, match="an axis of one voxel"):
        jacobian_determinant(field[:1])
    field[0, 0] = np.nan
    with pytest.raises(ValueError, match="holds 2 values that are not finite"):
        folding_fraction(field)
    for measure in (folding_fraction, log_jacobian_std):
        with pytest.raises(ValueError, match=r"mask has shape \(5, 4\)"):
            measure(np.zeros((4, 5, 2)), np.ones((5, 4)))
        with pytest.raises(ValueError, match="mask holds 0 voxels"):
            measure(np.zeros((4, 5, 2)), np.zeros((4, 5)))


@pytest.mark.parametrize("shape", [(2, 3, 4), (16, 5, 4), (17, 4, 3), (50, 6, 5), (33, 7)])
def test_determinants_are_those_of_the_whole_field_at_once(shape, rng):
    displacement = rng.normal(size=(*shape, len(shape))).astype(np.float32)
    slopes = np.stack(np.gradient(displacement.astype(float), axis=range(len(shape))), axis=-1)
    expected = np.linalg.det(np.eye(len(shape)) + slopes)
    np.testing.assert_allclose(jacobian_determinant(displacement), expected, atol=1e-9)
