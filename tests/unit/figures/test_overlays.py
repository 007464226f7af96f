import warnings
from functools import partial

import nibabel
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.image import imread

from cifl_tf.figures import segmentation
from cifl_tf.figures.segmentation import save_overlay

NAMES = {1: "inner", 2: "outer"}
COLORS = {1: to_hex("deepskyblue"), 2: to_hex("orange")}


def shells(shape=(60, 60, 60), sizes=(2.0, 2.0, 2.0)):
    """A ball of 20 mm and a shell of 35 mm around it, on a faint background, and their labels."""
    indices = np.moveaxis(np.indices(shape), 0, -1)
    radius = np.linalg.norm((indices - (np.array(shape) - 1) / 2) * sizes, axis=-1)
    labels = np.select([radius < 20, radius < 35], [1, 2]).astype(np.int16)
    values = np.select([labels == 1, labels == 2], [0.5, 0.3], 0.1).astype(np.float32)
    affine = np.diag([*sizes, 1])
    return nibabel.Nifti1Image(values, affine), nibabel.Nifti1Image(labels, affine)


@pytest.fixture
def draw(drawn):
    """The panels of an overlay."""
    return partial(drawn, segmentation, save_overlay)


def outlines(panel):
    """The points of the lines of a panel by color."""
    return {
        to_hex(lines.get_edgecolor()[0]): np.concatenate([p.vertices for p in lines.get_paths()])
        for lines in panel.collections
    }


def test_every_slice_shows_alone_and_with_outlines_on_the_borders(draw):
    panels = draw(*shells(), "file.png", NAMES)
    assert len(panels) == 20  # 6 axial, 2 sagittal and 2 coronal ones, twice
    titles = [panel.get_title() for panel in panels]
    assert titles[::2] == titles[1::2]
    axes = [title[0] for title in titles[::2]]
    assert axes == [*"zzzzzzxxyy"]
    assert len({*titles}) == 10
    for alone, outlined in zip(panels[::2], panels[1::2], strict=True):
        assert not alone.collections
        shown = alone.images[0].get_array()
        np.testing.assert_array_equal(shown, outlined.images[0].get_array())
        found = outlines(outlined)
        assert found.keys() <= {*COLORS.values()}
        middle = (np.array(shown.shape[::-1]) - 1) / 2
        # The inner ball is the brightest, and the shell around it ends where the background begins.
        for color, dimmest in ((COLORS[1], 0.8), (COLORS[2], 0.4)):
            if color in found:
                edge = np.linalg.norm(found[color] - middle, axis=1).max()
                places = np.argwhere(np.asarray(shown) > dimmest)[:, ::-1]
                assert edge == pytest.approx(np.linalg.norm(places - middle, axis=1).max(), abs=0.8)
    assert sum(COLORS[1] in outlines(panel) for panel in panels[1::2]) > 4


def test_lines_of_neighbors_stand_side_by_side(draw):
    panels = draw(*shells(), "file.png", NAMES)
    both = [found for found in map(outlines, panels[1::2]) if len(found) == 2]
    assert len(both) > 4
    for found in both:
        inner, outer = found[COLORS[1]], found[COLORS[2]]
        nearest = np.linalg.norm(inner[:, None] - outer[None], axis=-1).min(axis=1)
        assert nearest.min() > 0.4
        assert nearest.max() < 1.4


@pytest.mark.parametrize(("axis", "letter"), [(0, "x"), (1, "y"), (2, "z")])
def test_thick_slices_show_more_than_other_planes(draw, axis, letter):
    sizes, shape = [2.0] * 3, [60] * 3
    sizes[axis], shape[axis] = 6.0, 20
    axes = [panel.get_title()[0] for panel in draw(*shells(shape, sizes), "file.png", NAMES)]
    assert axes[:12] == [letter] * 12
    assert sorted({*axes[12:]}) == [other for other in "xyz" if other != letter]


def test_a_single_slice_shows_once_beside_its_outlines(draw):
    image, labels = (one.slicer[:, 30:31] for one in shells())
    alone, outlined = draw(image, labels, "file.png", NAMES)
    assert alone.get_title()[0] == "y"
    assert outlines(outlined).keys() == {*COLORS.values()}


def test_labels_may_lie_on_another_grid(draw):
    image, labels = shells()
    other = labels.slicer[2:, 5:, ::3].as_reoriented([[2, 1], [0, -1], [1, 1]])
    found, expected = (
        [outlines(panel) for panel in draw(image, one, "file.png", NAMES)[1::2]]
        for one in (other, labels)
    )
    assert {*found[2]} == {*expected[2]} == {*COLORS.values()}  # in the middle
    for panel, same in zip(found, expected, strict=True):
        for color in panel.keys() & same.keys():
            middles = [one[color].mean(axis=0) for one in (panel, same)]
            np.testing.assert_allclose(*middles, atol=2)


def test_fat_brighter_than_all_labels_leaves_contrast_between_them(draw):
    image, labels = shells()
    values = np.array(image.dataobj)
    values[4:8, :, 20:40] = 5  # ten times as bright as the brightest label
    bright = nibabel.Nifti1Image(values, image.affine)
    shown = draw(bright, labels, "file.png", NAMES)[4].images[0].get_array()
    middle = tuple(size // 2 for size in shown.shape)
    assert shown[middle] > 0.9


def test_many_labels_have_colors_of_their_own_and_no_legend(draw):
    image, _ = shells()
    blocks = np.indices(image.shape) // 20
    labels = nibabel.Nifti1Image(
        (1 + np.tensordot([9, 3, 1], blocks, 1)).astype(np.int16), np.diag([2, 2, 2, 1])
    )
    panels = draw(image, labels, "file.png")
    found = {color for panel in panels for color in outlines(panel)}
    assert len(found) == 27
    assert not panels[0].figure.legends


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("shape", [(20, 24, 22), (20, 24, 3), (2, 24, 20), (20, 1, 24), (20, 24)])
def test_an_overlay_shows_images_of_any_thickness(rng, tmp_path, shape, labelled):
    # Far from the origin of the scanner.
    affine = np.array([[2, 0, 0, 300], [0, 2, 0, 300], [0, 0, 2, 300], [0, 0, 0, 1]])
    labels = np.zeros(shape, np.uint8)
    if labelled:
        labels[shape[0] // 2 :] = 1
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        save_overlay(
            nibabel.Nifti1Image(rng.random(shape).astype(np.float32), affine),
            nibabel.Nifti1Image(labels, affine),
            tmp_path / "overlay.png",
        )
    picture = imread(tmp_path / "overlay.png")[..., :3]
    assert picture.std() > 0.05
    colored = np.ptp(picture, axis=-1) > 0.1
    assert colored.any() == labelled


def test_an_overlay_names_labels_in_colors_of_their_own(rng, tmp_path):
    affine = np.diag([2, 2, 2, 1])
    image = nibabel.Nifti1Image(rng.random((24, 24, 24)).astype(np.float32), affine)
    labels = np.zeros((24, 24, 24), np.int16)
    labels[4:12], labels[12:20] = 30, 7

    def colors(label_map, label_names):
        save_overlay(
            image, nibabel.Nifti1Image(label_map, affine), tmp_path / "names.png", label_names
        )
        legend = (imread(tmp_path / "names.png")[..., :3] * 255).round().astype(int)[-60:]
        return {tuple(color) for color in legend.reshape(-1, 3).tolist() if np.ptp(color) > 60}

    names = {7: "gray matter", 30: "white matter", 2: "absent"}
    blue, orange = ((0, 191, 255), (255, 165, 0))
    assert {blue, orange} <= colors(labels, names)
    # A label keeps its color where the others are absent.
    assert orange in colors(np.where(labels == 7, 0, labels), names)
    assert blue not in colors(np.where(labels == 7, 0, labels), names)


def test_an_overlay_gives_places_in_mm_whatever_the_unit(rng, tmp_path):
    labels = np.zeros((20, 20, 20), np.uint8)
    labels[8:12, 8:12, 8:12] = 1
    pictures = []
    for scale, unit in ((1, "mm"), (1000, "micron")):
        images = []
        for values in (np.linspace(0, 1, 8000).reshape(20, 20, 20).astype(np.float32), labels):
            one = nibabel.Nifti1Image(values, np.diag([2 * scale, 2 * scale, 2 * scale, 1]))
            one.header.set_xyzt_units(unit)
            images.append(one)
        save_overlay(*images, tmp_path / f"{unit}.png")
        pictures.append(imread(tmp_path / f"{unit}.png"))
    np.testing.assert_array_equal(*pictures)
