import numpy as np
import pytest

from cifl_tf.datasets import Variation, mni152_tissues, slices, virtual_cohort
from cifl_tf.datasets.virtual import MEANS, deformation
from cifl_tf.datasets.virtual_fields import integrate, random_velocity, resize, smooth_noise, warp

RESOLUTION = 4  # mm: fast
WM, GM, CSF, THA = 1, 2, 3, 4
STILL = Variation(broad=0, fine=0, folding=0, fluid=0, contrast=0, bias=0, noise=0)


@pytest.fixture(scope="module")
def cohort():
    return virtual_cohort(3, seed=5, resolution=RESOLUTION)


def jacobian_determinant(displacement):
    """Determinant of the Jacobian matrix of x + u(x), by central differences, in voxels."""
    dims = len(displacement)
    jacobian = np.stack([np.stack(np.gradient(part)) for part in displacement])
    return np.linalg.det(np.moveaxis(jacobian, (0, 1), (-2, -1)) + np.eye(dims))


def test_integral_of_a_constant_velocity_is_itself():
    velocity = np.ones((2, 9, 9), np.float32) * [[[0.7]], [[-1.2]]]
    np.testing.assert_allclose(integrate(velocity), velocity, rtol=1e-5)


def test_integral_of_a_linear_velocity_is_exponential():
    # dx/dt = a x has the solution x exp(a t).
    x = np.arange(-20, 21, dtype=np.float32)
    displacement = integrate(0.3 * x[None], num_squarings=10)[0]
    np.testing.assert_allclose(displacement[10:31], x[10:31] * (np.exp(0.3) - 1), atol=2e-3)


def test_the_opposite_velocity_is_the_inverse(rng):
    velocity = random_velocity((30, 30), [(4, 1.5)], rng)
    forth, back = integrate(velocity), integrate(-velocity)
    moved = np.stack([warp(part, forth) for part in back])
    np.testing.assert_allclose((forth + moved)[:, 6:-6, 6:-6], 0, atol=0.05)


def test_resize_keeps_cubic_polynomials():
    x = np.arange(9.0)
    fine = np.arange(17) * 0.5
    resized = resize((x**3 - x)[None].astype(np.float32), (17,), 0.5)
    np.testing.assert_allclose(resized[0], fine**3 - fine, atol=2e-3)


def test_warp_pulls():
    image = np.arange(8, dtype=np.float32)
    np.testing.assert_allclose(
        warp(image, np.full((1, 8), 1.5)), [1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7, 7]
    )


def test_smooth_noise_is_standardised(rng):
    noise = smooth_noise((20, 30), 3, rng)
    assert abs(noise.mean()) < 1e-5
    assert abs(noise.std() - 1) < 1e-5


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("resolution", [2, 4])
def test_deformations_do_not_fold(number, resolution):
    displacement = deformation(0, number, resolution, Variation())
    determinant = jacobian_determinant(displacement)
    assert determinant.min() > 0.1
    assert determinant.std() > 0.1  # but they do deform
    assert 2 < np.abs(displacement).max() * resolution < 25  # mm


def test_deformation_is_the_same_at_every_resolution():
    coarse, fine = (deformation(0, 1, step, Variation()) * step for step in (4, 2))
    shape = [min(a, (b + 1) // 2) for a, b in zip(coarse.shape[1:], fine.shape[1:], strict=True)]
    common = tuple(slice(size - 2) for size in shape)
    finer = fine[:, ::2, ::2, ::2]
    np.testing.assert_allclose(
        coarse[(slice(None), *common)], finer[(slice(None), *common)], atol=0.01
    )


def test_tissue_maps_are_probabilities():
    probabilities, affine = mni152_tissues(RESOLUTION)
    total = probabilities.sum(0)
    assert probabilities.min() >= 0
    np.testing.assert_allclose(total, total > 0.5, atol=1e-5)
    # The thalamus lies on both sides of the midline, about 18 mm behind the anterior commissure.
    weights = probabilities[3]
    voxels = np.moveaxis(np.indices(weights.shape), 0, -1)
    world = voxels @ affine[:3, :3].T + affine[:3, 3]
    center = np.average(world.reshape(-1, 3), axis=0, weights=weights.ravel())
    np.testing.assert_allclose(center, [0, -18, 7], atol=2)
    assert 6e3 < weights.sum() * RESOLUTION**3 < 14e3  # mm³, both sides


def test_cohort_is_one_as_the_others(cohort):
    assert cohort.names == ("virtual-001", "virtual-002", "virtual-003")
    assert cohort.contrasts == ("T1w", "T2w", "FLAIR", "PDw")
    assert cohort.label_names == {1: "WM", 2: "GM", 3: "CSF", 4: "THA"}
    images, labels, _ = slices(cohort, "T2w:inverted", count=3, center_label="THA")
    assert len(images) == len(labels) == 9


def test_labels_are_there_and_in_proportion(cohort):
    for subject in cohort:
        shares = np.bincount(subject.labels()[subject.mask()], minlength=5) / subject.mask().sum()
        assert 0.2 < shares[WM] < 0.5
        assert 0.3 < shares[GM] < 0.65
        assert 0.04 < shares[CSF] < 0.4
        assert 0.002 < shares[THA] < 0.02


def test_contrasts_differ_as_they_should(cohort):
    for subject in cohort:
        labels = subject.labels()
        mean = {
            contrast: {label: subject.image(contrast)[labels == label].mean() for label in range(5)}
            for contrast in cohort.contrasts
        }
        t1, t2, flair, pd = (mean[contrast] for contrast in ("T1w", "T2w", "FLAIR", "PDw"))
        assert t1[WM] > t1[THA] > t1[GM] > t1[CSF]
        assert t2[CSF] > t2[GM] > t2[WM]
        assert flair[GM] > flair[WM] > flair[CSF]
        assert min(pd[CSF], pd[GM]) > pd[WM]
        assert t1[0] == t2[0] == flair[0] == pd[0] == 0


def test_without_variation_it_is_the_template():
    subject = virtual_cohort(1, resolution=RESOLUTION, variation=STILL).subjects[0]
    probabilities, affine = mni152_tissues(RESOLUTION)
    inside = probabilities.sum(0) > 0.5
    expected = np.tensordot(np.array(MEANS["T1w"], np.float32), probabilities, 1)
    np.testing.assert_allclose(subject.volume("T1w").data[inside], expected[inside], atol=1e-5)
    np.testing.assert_array_equal(subject.affine, affine)


def test_noise_is_independent_between_contrasts():
    only_noise = Variation(broad=0, fine=0, folding=0, fluid=0, contrast=0, bias=0, noise=0.02)
    still = virtual_cohort(1, resolution=RESOLUTION, variation=STILL).subjects[0]
    noisy = virtual_cohort(1, resolution=RESOLUTION, variation=only_noise).subjects[0]
    inside = still.mask()
    noise = [(noisy.volume(name).data - still.volume(name).data)[inside] for name in ("T1w", "T2w")]
    assert abs(np.std(noise[0]) - 0.02) < 1e-3
    assert abs(np.corrcoef(noise)[0, 1]) < 0.03


def test_seed_and_number_decide(cohort):
    again = virtual_cohort(1, seed=5, resolution=RESOLUTION).subjects[0]
    first, second, _ = cohort
    for read in (lambda subject: subject.image("FLAIR"), lambda subject: subject.labels()):
        np.testing.assert_array_equal(read(again), read(first))
        assert not np.array_equal(read(second), read(first))
    other = virtual_cohort(1, seed=6, resolution=RESOLUTION).subjects[0]
    assert not np.array_equal(other.labels(), first.labels())


def test_subjects_are_made_when_asked_for(monkeypatch):
    made = []

    def noted(*arguments):
        made.append(arguments)
        return deformation(*arguments)

    monkeypatch.setattr("cifl_tf.datasets.virtual.deformation", noted)
    cohort = virtual_cohort(1000, seed=6, resolution=6)
    assert len(cohort) == 1000
    assert not made
    cohort.subjects[700].labels()
    assert [number for _, number, *_ in made] == [700]


@pytest.mark.parametrize(
    "wrong", [{"num_subjects": 0}, {"seed": -1}, {"resolution": 0}, {"resolution": 1.5}]
)
def test_errors(wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=f"{name} is .*: give a whole number from"):
        virtual_cohort(**wrong)
