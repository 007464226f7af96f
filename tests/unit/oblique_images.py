"""Images on oblique grids in any orientation, for the tests of reading and writing files."""

import math

import nibabel
import numpy as np
from nibabel.affines import from_matvec
from nibabel.orientations import axcodes2ornt, ornt_transform

SHAPE = (7, 9, 11)


def oblique_affine(zooms=(1.0, 1.5, 2.0), tilt=0.2):
    cos, sin = math.cos(tilt), math.sin(tilt)
    about_x = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    about_z = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    return from_matvec(about_x @ about_z @ np.diag(zooms), [-31.5, 12.25, 40.0])


def make_image(codes="RAS", shape=SHAPE, tilt=0.2, data=None):
    if data is None:
        data = np.random.default_rng(0).normal(100, 20, shape).astype(np.float32)
    image = nibabel.Nifti1Image(data, oblique_affine(tilt=tilt))
    return image.as_reoriented(ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(codes)))


def saved(image, path):
    nibabel.save(image, path)
    return path
