"""A head of balls within balls, whose brain is known."""

import nibabel
import numpy as np

AFFINE = np.diag([4.0, 4, 4, 1])
RADIUS = 40.0  # mm, of the brain


def ball_head(shape=(36, 40, 38)):
    """Images of a head and of its brain mask, of 4 mm, with the brain in the middle."""
    middle = (np.array(shape) - 1) / 2
    distance = 4 * np.linalg.norm(np.moveaxis(np.indices(shape), 0, -1) - middle, axis=-1)
    skull, scalp = RADIUS + 8, RADIUS + 20
    head = np.select([distance < RADIUS, distance < skull, distance < scalp], [90, 25, 60])
    texture = np.indices(shape).sum(axis=0) % 7
    head = (head + np.where(head > 0, texture, 0)).astype(np.int16)
    brain = (distance < RADIUS).astype(np.uint8)
    return nibabel.Nifti1Image(head, AFFINE), nibabel.Nifti1Image(brain, AFFINE)
