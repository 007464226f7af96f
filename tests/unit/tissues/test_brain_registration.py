import dataclasses
import os
from dataclasses import MISSING
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
from nibabel.affines import apply_affine

import cifl_tf
from cifl_tf._notes import Note
from cifl_tf.registration import Affine, stages
from cifl_tf.registration.affine_registration import AffineResult
from cifl_tf.registration.result import RegistrationResult
from cifl_tf.tissues import register_brains, registration

NEEDED = [field for field in dataclasses.fields(RegistrationResult) if field.default is MISSING]
AFFINE = np.diag([4.0, 4, 4, 1])


@pytest.fixture
def head():
    """A brain of two tissues in a skull and a scalp, at 4 mm."""
    middle = np.moveaxis(np.indices((50, 50, 50)), 0, -1) - [25, 25, 25]
    radius = np.linalg.norm(middle * [1, 0.85, 1.1], axis=-1)
    inside = np.linalg.norm(middle - [3, 4, 2], axis=-1)
    return np.select([inside < 6, radius < 17, radius < 19, radius < 22], [60.0, 90, 10, 70])


def record(into, chosen, after=(0.9,)):
    """A ``register`` that does nothing but note what it is called with."""

    def register(*pair, **options):
        into.append(chosen(pair, options))
        report = {"similarity before the warp": 0.5, "similarity after the warp": after[0]}
        return RegistrationResult(*[None] * len(NEEDED), report=report)

    return register


@pytest.fixture
def registered(monkeypatch):
    """The pairs that would be registered, which nothing does."""
    pairs = []
    monkeypatch.setattr(stages, "register", record(pairs, lambda pair, options: pair))
    return pairs


def image(array, affine=AFFINE):
    return nibabel.Nifti1Image(array.astype(np.float32), affine)


def shown(scan, where):
    """The share of some voxels that a scan shows."""
    return np.mean(np.asarray(scan.dataobj)[where] != 0)


def test_brains_of_heads_are_registered_and_whole_heads_warped(head, quick_alignment):
    there = AFFINE.copy()
    there[:3, 3] = [12, -8, 4]
    with pytest.warns(Note, match="shows a head: its brain is registered"):
        found = register_brains(image(head, there), image(head), stages=["rigid"])
    # In the brain: the middle of a ball says little of the corner of the image.
    middle = np.array([100, 100, 100])
    moved = apply_affine(found.affine.matrix, middle) - middle
    np.testing.assert_allclose(moved, [12, -8, 4], atol=2)
    scalp = head == 70
    assert np.asarray(found.warped.dataobj)[scalp].mean() > 50


def test_scans_stay_as_they_are_if_they_are_said_to_be_stripped(head, registered):
    scans = image(head), image(head)
    register_brains(*scans, stripped=True)
    assert registered == [scans]


def test_a_head_beside_a_brain_is_stripped(head, registered):
    brain = image(np.where((head == 70) | (head == 10), 0, head))
    with pytest.warns(Note, match="shows a head"):
        register_brains(brain, image(head), tissues=False)
    [(moving, fixed)] = registered
    assert moving is brain
    assert shown(fixed, head == 70) < 0.05
    assert shown(fixed, head == 60) == 1


def test_a_head_beside_something_else_stays_a_head(head, registered):
    scans = image(head[20:40, 20:40, 20:40]), image(head)
    register_brains(*scans)
    assert registered == [scans]


@pytest.fixture
def forgotten():
    """No fixed scan is remembered, from an earlier test or for a later one."""
    remembering = registration._brain_in_last, registration._tissues_of_last
    for one in remembering:
        one.cache_clear()
    yield
    for one in remembering:
        one.cache_clear()


@pytest.fixture
def given(monkeypatch, forgotten):
    """The options of registrations of brains that would be done, and their tissues."""
    options = []
    brain = SimpleNamespace(was_stripped=True)
    monkeypatch.setattr(registration, "plausible_brain", lambda *_: brain)
    after = [0.9]
    register = record(options, lambda pair, options: options, after)
    monkeypatch.setattr(stages, "register", register)
    found = SimpleNamespace(uncertainty="", channels="tissues", certainty=0.9)
    monkeypatch.setattr(registration, "segment_tissues", lambda brain, **_: found)
    return SimpleNamespace(options=options, tissues=found, after=after)


def test_tissues_of_brains_are_compared_where_nothing_else_is_asked_for(head, given):
    scans = image(head), image(head)
    tissues = {"moving_channels": "tissues", "fixed_channels": "tissues"}

    def compared(**options):
        register_brains(*scans, **options)
        found = given.options.pop()
        return {role: one for role, one in found.items() if role in tissues}

    assert compared() == tissues
    assert compared(fixed_window=[0, 80]) == tissues
    assert compared(tissues=False) == {}
    assert compared(stages=["rigid"]) == {}
    assert compared(encoder="shapes-3d") == {}
    assert compared(stripped=True) == {}
    assert compared(stripped=True, tissues=True) == tissues
    given.tissues.uncertainty = "the network is uncertain"
    with pytest.warns(Note, match="registered by features; moving scan: the network is uncertain"):
        assert compared() == {}
    assert compared(tissues=True) == tissues


def test_tissues_that_make_the_features_agree_less_give_way_to_features(head, given):
    scans = image(head), image(head)
    given.after[0] = 0.4
    with pytest.warns(Note, match="the scans are registered by features"):
        found = register_brains(*scans)
    first, second = given.options
    assert first["moving_channels"] == "tissues"
    assert "moving_channels" not in second
    assert not any("certainty" in name for name in found.report)
    register_brains(*scans, tissues=True)  # as asked for
    assert len(given.options) == 3


def test_the_matrix_of_scans_that_are_deformed_again_is_found_once(head, monkeypatch, forgotten):
    """The stages are real; what they find is made up."""
    brain = image(np.where((head == 70) | (head == 10), 0, head))
    known = SimpleNamespace(uncertainty="", channels=image(head[..., None]), certainty=0.9)
    monkeypatch.setattr(
        registration, "plausible_brain", lambda *_: SimpleNamespace(was_stripped=True)
    )
    monkeypatch.setattr(registration, "segment_tissues", lambda *_, **__: known)
    monkeypatch.setattr(registration, "_agrees_less", lambda _: True)
    matrix, aligned = AffineResult(Affine.identity(), 0.3, 0.5, 9, 9, 1.0), []
    monkeypatch.setattr(stages, "register_affine", lambda *_, **__: aligned.append(1) or matrix)
    monkeypatch.setattr(
        "cifl_tf.registration.methods.register_deformable",
        lambda moving, fixed, *_, **__: np.zeros((*fixed.shape, 3), np.float32),
    )
    monkeypatch.setattr(stages, "feature_similarity", lambda *_: 0.5)
    monkeypatch.setattr(registration, "matrix_doubts", lambda *known: [str(known)])
    with pytest.warns(Note, match="the scans are registered by features"):
        found = register_brains(brain, brain, fast=True)
    assert aligned == [1]
    assert found.affine is matrix.affine
    assert found.warnings[0] == str((matrix.affine, 0.3, 0.5))
    assert {"matrix (s)", "similarity before", "warp (s)"} <= {*found.report}


def test_a_fixed_scan_that_many_share_is_looked_at_once(head, given, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(registration, "plausible_brain", lambda scan, *_: seen.append(scan))
    path = tmp_path / "fixed.nii.gz"
    image(head).to_filename(path)
    moving = [image(head + number) for number in range(3)]
    for scan in moving:
        register_brains(scan, path)
    assert seen == [moving[0], path, *moving[1:]]
    image(2 * head).to_filename(path)
    os.utime(path, ns=(1, 1))
    register_brains(moving[0], path)
    assert seen[4:] == [moving[0], path]
    fixed = [image(head), image(head), image(head + 1)]
    for scan in fixed:
        register_brains(path, scan)
    assert seen[6:] == [path, fixed[0], path, path, fixed[2]]


def test_channels_on_other_grids_move_what_the_images_do_not_show(rng):
    """A ball of the moving scan's channel, turned and of other voxels, comes to the fixed one's."""
    noise = np.pad(rng.uniform(0.4, 0.6, (20, 20, 20)), 6)
    scan = image(noise, np.diag([3.0, 3, 3, 1]))

    def ball(middle, affine, shape):
        points = apply_affine(affine, np.moveaxis(np.indices(shape), 0, -1))
        inside = np.linalg.norm(points - middle, axis=-1) < 15
        return nibabel.Nifti1Image(inside[..., None].astype(np.float32), affine)

    turned = np.array([[0, 2.5, 0, -2], [-2, 0, 0, 95], [0, 0, 4, 1], [0, 0, 0, 1.0]])
    moving = ball([52, 46, 46], turned, (48, 40, 24))
    fixed = ball([45, 46, 46], scan.affine, scan.shape)
    found = cifl_tf.register(
        scan, scan, stages=["deformable"], moving_channels=moving, fixed_channels=fixed
    )
    middle = found.transform.map([[45.0, 46, 46]])[0]
    np.testing.assert_allclose(middle, [52, 46, 46], atol=2.5)


def test_channels_of_one_scan_alone_are_refused(head):
    scan = image(head)
    with pytest.raises(ValueError, match="no channels of the fixed scan; give those of both"):
        cifl_tf.register(scan, scan, moving_channels=scan)
    with pytest.raises(ValueError, match="channels are for the deformable stage, but stages are"):
        cifl_tf.register(scan, scan, stages=["rigid"], moving_channels=scan, fixed_channels=scan)
    with pytest.raises(ValueError, match=r"has shape \(50, 50, 50\); give channels \(x, y, z, C\)"):
        cifl_tf.register(
            scan, scan, stages=["deformable"], moving_channels=scan, fixed_channels=scan
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": "nowhere.nii.gz"}, "nowhere.nii.gz does not exist"),
        ({"fixed_mask": "nowhere.nii.gz"}, "nowhere.nii.gz does not exist"),
        ({"stages": "rigid", "tissues": True}, "compared in the deformable stage"),
        ({"voxel_size": 0.01}, "memory"),
        ({"voxel_size": -1}, "positive"),
    ],
)
def test_what_does_not_fit_is_refused_before_the_search_for_brains(options, message, monkeypatch):
    monkeypatch.setattr(registration, "plausible_brain", lambda *_: pytest.fail("searched"))
    scan = nibabel.Nifti1Image(np.indices((80, 80, 80)).sum(axis=0).astype(np.int16), np.eye(4))
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        register_brains(scan, scan, **options)
