import numpy as np
import tensorflow as tf
from scipy.ndimage import map_coordinates

from cifl_tf._compat import vxm
from cifl_tf.synthesis.integration import IntegrateVelocity, integrate
from cifl_tf.synthesis.smooth_fields import interpolate


def smooth_velocity(rng, shape, std=2.0):
    coarse = rng.normal(0, std, (1, len(shape), *(size // 8 + 2 for size in shape)))
    return np.moveaxis(interpolate(coarse.astype(np.float32), shape)[0].numpy(), 0, -1)


def flow(velocity, steps=2000):
    """The displacement of particles that the velocity moves in many small steps."""
    shape = velocity.shape[:-1]
    start = np.indices(shape).astype(float)
    places = start.copy()
    for _ in range(steps):
        places += [
            map_coordinates(velocity[..., axis], places, order=1, mode="nearest") / steps
            for axis in range(len(shape))
        ]
    return np.moveaxis(places - start, 0, -1)


def test_particles_arrive_where_the_integral_says(rng):
    velocity = smooth_velocity(rng, (24, 20))
    np.testing.assert_allclose(integrate(tf.constant(velocity), 7), flow(velocity), atol=0.1)


def test_batches_are_as_of_voxelmorph_and_have_its_gradient(rng):
    velocities = tf.constant(np.stack([smooth_velocity(rng, (10, 12, 9)) for _ in range(2)]))
    theirs = vxm.layers.VecInt(int_steps=5)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(velocities)
        found, known = IntegrateVelocity(5)(velocities), theirs(velocities)
        sums = tf.reduce_sum(found**2), tf.reduce_sum(known**2)
    np.testing.assert_allclose(found, known, atol=1e-5)
    first, second = (tape.gradient(one, velocities) for one in sums)
    np.testing.assert_allclose(first, second, atol=1e-3 * np.abs(second).max())
