"""Which side of the body lies where in pictures, and how large voxels are in them."""

import nibabel
import numpy as np
import pytest
from nibabel.affines import apply_affine, from_matvec

import cifl_tf
from cifl_tf.figures import features, masks, segmentation
from cifl_tf.figures.registration import RegisteredSlice, registration_figure
from cifl_tf.images.preprocessing import Preprocessing
from cifl_tf.registration.images import register_images
from cifl_tf.registration.methods import NoDeformation

DIRECTIONS = {
    "R": (1, 0, 0),
    "L": (-1, 0, 0),
    "A": (0, 1, 0),
    "P": (0, -1, 0),
    "S": (0, 0, 1),
    "I": (0, 0, -1),
}
GRIDS = {  # voxel sizes along the axes of the file, and what these lead to
    "RAS": (2, 2, 5),
    "LAS": (2, 2, 5),
    "LPS": (2, 5, 2),
    "PSR": (2, 2, 5),
    "IPL": (5, 2, 2),
}
RADIUS = 40.0


def file_affine(codes, tilt=0.0):
    """An affine whose axes lead where the letters say, turned about z, with 0 mm in the middle."""
    turn = np.array([[np.cos(tilt), -np.sin(tilt), 0], [np.sin(tilt), np.cos(tilt), 0], [0, 0, 1]])
    axes = turn @ np.array([DIRECTIONS[code] for code in codes]).T * GRIDS[codes]
    return from_matvec(axes, -axes @ ((np.array(file_shape(codes)) - 1) / 2))


def file_shape(codes):
    return tuple(100 // size + 1 for size in GRIDS[codes])


def ball_with(codes, marked=(), tilt=0.0):
    """A ball, and marks 25 mm off its center in the directions of the letters."""
    affine = file_affine(codes, tilt)
    places = apply_affine(affine, np.moveaxis(np.indices(file_shape(codes)), 0, -1))
    ball = np.linalg.norm(places, axis=-1) < RADIUS
    values = np.where(ball, 50.0, 0.0)
    for letter in marked:
        center = 25 * np.array(DIRECTIONS[letter])
        values[np.linalg.norm(places - center, axis=-1) < 14] = 100
    image = nibabel.Nifti1Image(values.astype(np.float32), affine)
    return image, nibabel.Nifti1Image(ball.astype(np.uint8), affine)


def letters(panel):
    """What is written on the left and on the right of a panel."""
    found = {}
    for text in panel.texts:
        x, _ = panel.transAxes.inverted().transform(text.get_window_extent().get_points().mean(0))
        found["left" if x < 0.5 else "right"] = text.get_text()
    return found


def side_of_mark(panel):
    """Where the bright mark is on the screen; None where the slice has none."""
    shown = np.asarray(panel.images[0].get_array())
    rows, columns = np.nonzero(shown > 0.95 * max(1, shown.max()))
    if not len(columns):
        return None
    pixels = panel.transData.transform(np.column_stack([columns, rows]))
    x, _ = panel.transAxes.inverted().transform(pixels.mean(axis=0))
    return "left" if x < 0.5 else "right"


def check_sides(panels, letter):
    """The mark lies on the side with its letter in all panels that show both."""
    sides = [(letters(panel), side_of_mark(panel)) for panel in panels]
    told = [found[side] for found, side in sides if side and letter in found.values()]
    assert told
    assert set(told) == {letter}


@pytest.mark.parametrize("letter", ["L", "A"])
@pytest.mark.parametrize("codes", [*GRIDS])
def test_letters_tell_the_side_of_a_mark(drawn, codes, letter):
    image, mask = ball_with(codes, letter, tilt=0.3)
    check_sides(drawn(masks, masks.save_mask_picture, image, mask, "file.png"), letter)
    check_sides(drawn(segmentation, segmentation.save_overlay, image, mask, "file.png"), letter)
    volume = cifl_tf.read_volume(image)
    channels = np.repeat(volume.data[..., None], 2, axis=-1)
    panels = drawn(features, features.save_feature_picture, volume, channels, "file.png")
    check_sides(panels[::3], letter)  # beside the channels


@pytest.mark.parametrize("codes", ["LAS", "PSR"])
@pytest.mark.parametrize("letter", ["R", "P"])
def test_letters_tell_the_side_of_a_mark_in_registrations(codes, letter):
    image, _ = ball_with(codes, letter)
    found = register_images(image, image, NoDeformation(Preprocessing()), voxel_size=4)
    figure = registration_figure(found.views)
    figure.canvas.draw()
    for column in range(3):
        check_sides(figure.axes[column::7], letter)


def test_slices_of_unknown_sides_bear_no_letters(rng):
    still = RegisteredSlice(*rng.random((3, 8, 8)), np.zeros((8, 8, 2)))
    assert not any(panel.texts for panel in registration_figure({"": still}).axes)


@pytest.mark.parametrize("codes", [*GRIDS])
@pytest.mark.parametrize(
    ("module", "function"),
    [(masks, masks.save_mask_picture), (segmentation, segmentation.save_overlay)],
)
def test_a_ball_is_round_whatever_the_voxels(drawn, module, function, codes):
    panels = drawn(module, function, *ball_with(codes), "file.png")
    outlined = [panel for panel in panels if panel.collections]
    assert len(outlined) >= 6
    for panel in outlined:
        vertices = np.concatenate([p.vertices for c in panel.collections for p in c.get_paths()])
        width, height = np.ptp(panel.transData.transform(vertices), axis=0)
        assert width == pytest.approx(height, rel=0.15)
        # And where the image shows it: the outline is on the edge of the ball.
        shown = np.asarray(panel.images[0].get_array()) > 0.2
        inside = panel.transData.transform(np.argwhere(shown)[:, ::-1])
        np.testing.assert_allclose(np.ptp(inside, axis=0), [width, height], rtol=0.3)
