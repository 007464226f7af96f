import nibabel
import numpy as np
import pytest

from cifl_tf._notes import Note
from cifl_tf.registration import stages
from cifl_tf.tissues import register_brains

AFFINE = np.diag([4.0, 4, 4, 1])


@pytest.fixture
def head():
    """A brain of two tissues in a skull and a scalp, at 4 mm."""
    middle = np.moveaxis(np.indices((50, 50, 50)), 0, -1) - [25, 25, 25]
    radius = np.linalg.norm(middle * [1, 0.85, 1.1], axis=-1)
    inside = np.linalg.norm(middle - [3, 4, 2], axis=-1)
    return np.select([inside < 6, radius < 17, radius < 19, radius < 22], [60.0, 90, 10, 70])


@pytest.fixture
def registered(monkeypatch):
    """The pairs that would be registered, which nothing does."""
    pairs = []
    monkeypatch.setattr(stages, "register", lambda *pair, **options: pairs.append(pair))
    return pairs


def image(array, affine=AFFINE):
    return nibabel.Nifti1Image(array.astype(np.float32), affine)


def shown(scan, where):
    """The share of some voxels that a scan shows."""
    return np.mean(np.asarray(scan.dataobj)[where] != 0)


def test_brains_of_heads_are_registered_and_whole_heads_warped(head):
    there = AFFINE.copy()
    there[:3, 3] = [12, -8, 4]
    with pytest.warns(Note, match="shows a head: its brain is registered"):
        found = register_brains(image(head, there), image(head), stages=["rigid"])
    np.testing.assert_allclose(found.affine.matrix[:3, 3], [12, -8, 4], atol=2)
    scalp = head == 70
    assert np.asarray(found.warped.dataobj)[scalp].mean() > 50


def test_scans_stay_as_they_are_if_they_are_said_to_be_stripped(head, registered):
    scans = image(head), image(head)
    register_brains(*scans, stripped=True)
    assert registered == [scans]


def test_a_head_beside_a_brain_is_stripped(head, registered):
    brain = image(np.where((head == 70) | (head == 10), 0, head))
    with pytest.warns(Note, match="shows a head"):
        register_brains(brain, image(head))
    [(moving, fixed)] = registered
    assert moving is brain
    assert shown(fixed, head == 70) < 0.05
    assert shown(fixed, head == 60) == 1


def test_a_head_beside_something_else_stays_a_head(head, registered):
    scans = image(head[20:40, 20:40, 20:40]), image(head)
    register_brains(*scans)
    assert registered == [scans]
