"""Speed and memory, as ratios measured in one run against what one would use otherwise.

Prints, for this machine:
(a) pairs per second of PairSynthesizer, against neurite's labels_to_image called twice in one
    graph, each call with a warp of its own, as in voxelmorph's SynthMorph training script;
(b) the share of synthesis, shapes included, in the default training step;
(c) inference of the default encoder against the same eight convolutions as bare tf.nn calls;
(d) optimize_instance of T1w to T2w slices against SyN with mutual information, where ANTsPy is
    installed.

Both sides of a ratio run in turn, so that a change of the machine's speed meets both; the ratio is
that of medians, with its lowest and highest value over the turns.
"""

import argparse
import importlib.util
import subprocess
import sys
import time

import cifl_tf as cifl  # first: it selects Keras 2 for TensorFlow

import numpy as np  # isort: skip
import tensorflow as tf  # isort: skip

from cifl_tf._compat import ne
from cifl_tf.datasets import stack_cohort, virtual_cohort
from cifl_tf.features.config import TrainingConfig
from cifl_tf.features.encoder import NUM_CONVOLUTIONS
from cifl_tf.features.training import build_model
from cifl_tf.images.memory import peak_memory
from cifl_tf.registration.syn import register_syn

IMAGE_2D, IMAGE_3D = (8, 160, 192, 1), (1, 80, 96, 80, 1)


def in_turns(first, second, turns, *arguments):
    """Seconds of two functions, measured in turn: two arrays (turns,)."""
    for function in (first, second, first, second):
        function(*arguments)
    times = np.empty((turns, 2))
    for turn in range(turns):
        for column, function in enumerate((first, second)):
            start = time.perf_counter()
            function(*arguments)
            times[turn, column] = time.perf_counter() - start
    return times.T


def show_ratio(what, times, numerator, denominator):
    """Print the ratio of medians of two series, and its range over the turns."""
    ratios = times[numerator] / times[denominator]
    ratio = np.median(times[numerator]) / np.median(times[denominator])
    print(f"    {what}: {ratio:.2f} ({ratios.min():.2f} to {ratios.max():.2f})")


def benchmark_synthesis(turns):
    """(a): our pairs against two neurite models."""
    for shape, count in (((160, 192), 8), ((64, 64, 64), 1)):
        labels = next(iter(cifl.shape_maps(shape).batch(count)))
        ours = tf.function(cifl.PairSynthesizer(shape))
        painters = [
            ne.models.labels_to_image(shape, np.arange(16), warp_std=3, one_hot=False, id=index)
            for index in range(2)
        ]
        theirs = tf.function(lambda maps, painters=painters: [model(maps)[0] for model in painters])
        times = in_turns(ours, theirs, turns, labels)
        rates = count / np.median(times, axis=1)
        size = "x".join(map(str, shape))
        print(f"(a) pairs of {size} per second: {rates[0]:.0f} ours, {rates[1]:.0f} neurite's")
        show_ratio("neurite's time over ours", times, 1, 0)


def benchmark_step(turns):
    """(b): the training step with synthesis against the step on a given pair."""
    config = TrainingConfig()
    maps = iter(cifl.shape_maps(config.shape).batch(config.batch_size).prefetch(2))
    synthesizer = cifl.PairSynthesizer(config.shape)
    with_synthesis = build_model(config, synthesizer)
    without = build_model(config, None)
    pair = synthesizer(next(maps))
    step = tf.function(with_synthesis.train_step)
    bare_step = tf.function(without.train_step)
    times = in_turns(lambda: step(next(maps)), lambda: bare_step(pair), turns)
    medians = np.median(times, axis=1)
    print(
        f"(b) default training step: {1e3 * medians[0]:.0f} ms, on a given pair "
        f"{1e3 * medians[1]:.0f} ms; share of synthesis {1 - medians[1] / medians[0]:.1%}"
    )


def bare_convolutions(encoder):
    """The convolutions of a plain encoder as one tf.function of tf.nn calls."""
    weights = [tf.constant(value) for value in encoder.get_weights()]
    convolution = tf.nn.conv2d if len(encoder.input_shape) == 4 else tf.nn.conv3d
    strides = [1] * len(encoder.input_shape)

    @tf.function
    def run(image):
        for index in range(NUM_CONVOLUTIONS):
            kernel, bias = weights[2 * index : 2 * index + 2]
            image = tf.nn.bias_add(convolution(image, kernel, strides, "SAME"), bias)
            if index < NUM_CONVOLUTIONS - 1:
                image = tf.nn.leaky_relu(image, 0.2)
        return image

    return run


def encoder_and_bare(shape):
    """The default encoder and its bare convolutions, as functions without arguments."""
    encoder = cifl.build_encoder(len(shape) - 2)
    image = tf.random.uniform(shape)
    ours, bare = tf.function(encoder), bare_convolutions(encoder)
    return {"encoder": lambda: ours(image), "bare": lambda: bare(image)}


def benchmark_encoder(turns):
    """(c): time in this process, peak memory each in a process of its own."""
    for shape in (IMAGE_2D, IMAGE_3D):
        functions = encoder_and_bare(shape)
        times = in_turns(functions["encoder"], functions["bare"], turns)
        ndim = len(shape) - 2
        milliseconds = 1e3 * np.median(times, axis=1)
        print(f"(c) {ndim}D encoder on {shape}: {milliseconds[0]:.0f} ms, ", end="")
        print(f"bare tf.nn {milliseconds[1]:.0f} ms")
        show_ratio("encoder's time over bare", times, 0, 1)
        peaks = {}
        for which in functions:
            command = [sys.executable, __file__, "--peak", which, "--ndim", str(ndim)]
            peaks[which] = float(subprocess.check_output(command, text=True))
        print(f"    peak memory: {peaks['encoder']:.0f} MB, bare {peaks['bare']:.0f} MB")


def benchmark_registration(turns):
    """(d): the optimized warps of pairs of slices against those of ANTs."""
    if importlib.util.find_spec("ants") is None:
        print("(d) is left out: ANTsPy is not installed (pip install antspyx)")
        return
    subjects = virtual_cohort(2, resolution=2)
    pair = [
        stack_cohort(subjects.select([name]), contrast, count=8)[0]
        for name, contrast in zip(subjects.names, ("T1w", "T2w"), strict=True)
    ]
    encoder = cifl.load_pretrained("shapes-2d")
    times = in_turns(
        lambda: cifl.optimize_instance(*pair, encoder), lambda: register_syn(*pair), turns
    )
    count, size = len(pair[0]), "x".join(map(str, pair[0].shape[1:-1]))
    seconds = np.median(times, axis=1) / count
    print(f"(d) seconds per pair of {size}: {seconds[0]:.2f} ours, {seconds[1]:.2f} SyN's")
    show_ratio("SyN's time over ours", times, 1, 0)


def print_peak(which, ndim):
    """Print how many MB the peak memory of this process rose by running one side of (c)."""
    run = encoder_and_bare({2: IMAGE_2D, 3: IMAGE_3D}[ndim])[which]
    before = peak_memory()
    for _ in range(3):
        run()
    print(peak_memory() - before)


def main(argv=None):
    """Run the benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=15, help="measurements of each side")
    parser.add_argument("--peak", choices=("encoder", "bare"), help=argparse.SUPPRESS)
    parser.add_argument("--ndim", type=int, choices=(2, 3), default=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.peak:
        print_peak(arguments.peak, arguments.ndim)
        return
    benchmark_synthesis(arguments.turns)
    benchmark_step(arguments.turns)
    benchmark_encoder(arguments.turns)
    benchmark_registration(min(arguments.turns, 5))


if __name__ == "__main__":
    main()
