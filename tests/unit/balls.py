"""A head of balls within balls, whose brain is known."""

import nibabel
import numpy as np
import tensorflow as tf

from cifl_tf._compat import keras
from cifl_tf.images.preprocessing import Preprocessing, exact_voxel_size
from cifl_tf.stripping.stripper import Stripper

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


class Ball(keras.layers.Layer):
    """Distance in mm to a ball in the middle of what is no air, of voxels of 4 mm."""

    def __init__(self, radius, **kwargs):
        super().__init__(**kwargs)
        self.radius = radius

    def call(self, image):
        sizes = tf.shape(image)[1:4]
        axes = [tf.range(sizes[axis]) for axis in range(3)]
        grid = tf.cast(tf.stack(tf.meshgrid(*axes, indexing="ij"), axis=-1), tf.float32)
        shown = tf.cast(image[0] > 0.02, tf.float32)
        middle = tf.reduce_sum(grid * shown, (0, 1, 2)) / tf.reduce_sum(shown)
        return (4 * tf.norm(grid - middle, axis=-1) - self.radius)[None, ..., None]


def ball_stripper(radius=RADIUS):
    """A stripper that finds a ball, without any training."""
    image = keras.Input((None, None, None, 1))
    network = keras.Model(image, Ball(radius)(image))
    return Stripper(network, Preprocessing(exact_voxel_size([4, 4, 4])))
