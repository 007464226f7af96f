import dataclasses

import nibabel
import numpy as np
import pytest
from nibabel.affines import apply_affine, from_matvec
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from cifl_tf.features.encoder import build_encoder
from cifl_tf.features.pretrained import load_encoder
from cifl_tf.registration import Affine, AffineSettings, affine_registration, register_affine
from cifl_tf.registration.affine_scan import AffineScan

sitk = pytest.importorskip("SimpleITK")

QUICK = AffineSettings(voxel_sizes=(6.0,), iterations=(4,), radii=(3,), angles=(0.0, 30.0))
TURN = Rotation.from_euler("xyz", [24, 20, 28], degrees=True).as_matrix()
CENTER = np.array([0.0, -4.0, 6.0])
CORNERS = CENTER + 45 * (2 * np.indices((2, 2, 2)).reshape(3, -1).T - 1)


@pytest.fixture(scope="module")
def encoder():
    return load_encoder("shapes-3d")


@pytest.fixture(scope="module")
def phantom():
    """An ellipsoid of blobs, smaller than a brain, at 4 mm."""
    rng = np.random.default_rng(3)
    shape = (34, 40, 34)
    blobs = gaussian_filter(rng.standard_normal(shape), 2.5)
    levels = np.digitize(blobs, np.quantile(blobs, [0.25, 0.5, 0.75])) / 4 + 0.25
    affine = from_matvec(4 * np.eye(3), CENTER - 4 * (np.array(shape) - 1) / 2)
    points = apply_affine(affine, np.moveaxis(np.indices(shape), 0, -1)) - CENTER
    inside = np.square(points / [50, 62, 48]).sum(axis=-1) < 1
    return nibabel.Nifti1Image(np.where(inside, levels, 0).astype(np.float32), affine)


def inverted(image):
    data = np.asarray(image.dataobj)
    return nibabel.Nifti1Image(np.where(data > 0, 1.25 - data, 0).astype(np.float32), image.affine)


def turned(image, truth):
    """The image on its own grid after its points went by a matrix, by SimpleITK."""
    itk = sitk.GetImageFromArray(np.asarray(image.dataobj).T)
    itk.SetSpacing([4.0, 4.0, 4.0])
    itk.SetDirection([-1, 0, 0, 0, -1, 0, 0, 0, 1])
    itk.SetOrigin((image.affine[:3, 3] * [-1, -1, 1]).tolist())
    to_lps = np.diag([-1, -1, 1, 1])
    back = to_lps @ np.linalg.inv(truth) @ to_lps
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(back[:3, :3].ravel().tolist())
    transform.SetTranslation(back[:3, 3].tolist())
    moved = sitk.Resample(itk, itk, transform, sitk.sitkLinear, 0.0)
    return nibabel.Nifti1Image(sitk.GetArrayFromImage(moved).T, image.affine)


def missed(affine, truth):
    """Largest distance at the corners in mm."""
    return np.linalg.norm(affine.map(CORNERS) - apply_affine(truth, CORNERS), axis=1).max()


def test_a_turned_scan_of_another_contrast_is_found(encoder, phantom):
    truth = Affine.about(0.95 * TURN, CENTER, [6, -4, 2]).matrix
    found = register_affine(turned(inverted(phantom), truth), phantom, encoder, settings=QUICK)
    assert missed(found.affine, truth) < 6  # a voxel
    assert found.after > 0.8 > found.before
    assert 0 < found.inliers < found.pairs
    assert found.seconds > 0


def test_rigid_registration_keeps_lengths(encoder, phantom):
    truth = Affine.about(Rotation.from_rotvec([0.1, 0.05, -0.1]).as_matrix(), CENTER, [5, 3, -4])
    moving = turned(phantom, truth.matrix)
    settings = AffineSettings((6.0,), (3,), (3,), angles=(0.0,))
    found = register_affine(moving, phantom, encoder, rigid=True, settings=settings)
    linear = found.affine.matrix[:3, :3]
    np.testing.assert_allclose(linear @ linear.T, np.eye(3), atol=1e-6)
    assert missed(found.affine, truth.matrix) < 3


def test_scans_whose_headers_are_far_apart_meet_at_their_centers(encoder, phantom):
    far = from_matvec(np.eye(3), [900, -300, 500])
    moving = nibabel.Nifti1Image(np.asarray(phantom.dataobj), far @ phantom.affine)
    settings = AffineSettings((6.0,), (2,), (2,), angles=(0.0,))
    found = register_affine(moving, phantom, encoder, settings=settings)
    assert missed(found.affine, far) < 1


def test_an_initial_affine_is_where_it_starts(encoder, phantom):
    truth = Affine.about(TURN, CENTER)
    moving = turned(phantom, truth.matrix)
    settings = AffineSettings((4.0,), (1,), (1,))
    found = register_affine(moving, phantom, encoder, initial=truth, settings=settings)
    assert missed(found.affine, truth.matrix) < 2


def test_masks_leave_out_what_moved_otherwise(encoder, phantom):
    data = np.asarray(phantom.dataobj).copy()
    half = np.zeros(data.shape, np.uint8)
    half[:, :20] = 1
    data[:, 20:] = np.roll(data[:, 20:], 3, axis=0)
    moving = nibabel.Nifti1Image(data, phantom.affine)
    mask = nibabel.Nifti1Image(half, phantom.affine)
    settings = AffineSettings((4.0,), (2,), (2,), angles=(0.0,))
    found = register_affine(
        moving, phantom, encoder, moving_mask=mask, fixed_mask=mask, rigid=True, settings=settings
    )
    assert missed(found.affine, np.eye(4)) < 1.5


def test_bad_input_is_refused(encoder, phantom, tiny_encoder):
    with pytest.raises(ValueError, match="not for volumes"):
        register_affine(phantom, phantom, tiny_encoder)
    nothing = nibabel.Nifti1Image(np.zeros(phantom.shape, np.uint8), phantom.affine)
    with pytest.raises(ValueError, match="outside the mask"):
        register_affine(phantom, phantom, encoder, fixed_mask=nothing)
    thin = nibabel.Nifti1Image(np.asarray(phantom.dataobj)[:, :, 20:22], phantom.affine)
    with pytest.raises(ValueError, match="at least 4 along every axis"):
        register_affine(thin, phantom, encoder)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"iterations": (1,)}, "for every level"),
        ({"voxel_sizes": (8.0, -4.0, 2.0)}, "voxel_sizes is -4.0"),
        ({"radii": (3, 2, 0)}, "radii is 0"),
        ({"tolerance": -1.0}, "tolerance is -1.0"),
    ],
)
def test_bad_settings_are_refused(options, match):
    with pytest.raises(ValueError, match=match):
        AffineSettings(**options)


def test_windows_scale_the_intensities(encoder, phantom, monkeypatch):
    brightest = []

    class Seen(affine_registration.AffineScan):
        def __init__(self, volume, scaled, *more):
            brightest.append(np.mean(scaled == 1))
            super().__init__(volume, scaled, *more)

    monkeypatch.setattr(affine_registration, "AffineScan", Seen)
    settings = AffineSettings(voxel_sizes=(8.0,), iterations=(1,), radii=(1,), angles=(0.0,))
    register_affine(
        phantom, phantom, encoder, moving_window=(0, 10), fixed_window=(0, 0.6), settings=settings
    )
    data = np.asarray(phantom.dataobj)
    assert brightest[0] == 0
    assert brightest[1] == pytest.approx(np.mean(data >= 0.6), abs=0.1)
    assert brightest[1] > 0.05


def test_a_fixed_scan_is_encoded_once_for_all_that_are_registered_to_it(phantom, monkeypatch):
    tiny, another = (build_encoder(3, num_features=2, num_filters=2) for _ in range(2))
    encoded, encode = [], AffineScan._encode

    def counted(scan, lattice, matrix, remapped):
        encoded.append(matrix)
        return encode(scan, lattice, matrix, remapped)

    monkeypatch.setattr(AffineScan, "_encode", counted)
    affine_registration._scan_of.cache_clear()

    def fixed_encodings(moving, fixed, model=tiny, **options):
        encoded.clear()
        settings = dataclasses.replace(QUICK, iterations=(1,), angles=(0.0,))
        found = register_affine(moving, fixed, model, settings=settings, **options)
        return sum(matrix is None for matrix in encoded), found.affine.matrix

    other = inverted(phantom)
    shown = nibabel.Nifti1Image((phantom.get_fdata() > 0).astype(np.uint8), phantom.affine)
    first, expected = fixed_encodings(other, phantom)
    assert first == 1
    again, found = fixed_encodings(other, phantom)
    assert again == 0
    np.testing.assert_array_equal(found, expected)
    copy = nibabel.Nifti1Image(np.array(phantom.dataobj), phantom.affine)
    assert fixed_encodings(phantom, copy)[0] == 0
    assert fixed_encodings(phantom, copy, fixed_mask=shown)[0] == 1
    assert fixed_encodings(phantom, copy, fixed_window=(0, 1))[0] == 1
    copy.dataobj[20, 20, 17] += 0.25
    assert fixed_encodings(phantom, copy, fixed_window=(0, 1))[0] == 1
    assert fixed_encodings(phantom, copy, another)[0] == 1
    assert fixed_encodings(phantom, copy, another)[0] == 0
    another.set_weights(tiny.get_weights())
    assert fixed_encodings(phantom, copy, another)[0] == 1
