"""Train a CIFL encoder on random shapes with plain Keras.

Copy this script and change it. It makes its data, so it runs as it is:

    python scripts/train_cifl.py --out my_model

`cifl train` does the same with a folder that survives interruptions.
"""

import argparse
from pathlib import Path

import cifl_tf as cifl  # first: it selects Keras 2 for TensorFlow

import tensorflow as tf  # isort: skip
from tensorflow import keras


def main(argv=None):
    """Train, and write the encoder in the Keras format and as a SavedModel."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--shape", type=int, nargs="+", default=[96, 96], help="in voxels")
    parser.add_argument("--num-features", type=int, default=16, help="channels of the features")
    parser.add_argument("--batch-size", type=int, default=6, help="pairs per step")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--steps-per-epoch", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)

    keras.utils.set_random_seed(args.seed)
    # One copy of the model per GPU; on one device this changes nothing.
    strategy = tf.distribute.MirroredStrategy()

    # Endless label maps of random shapes. For your own segmentations:
    # maps, num_labels = cifl.segmentation_maps("my_segmentations", args.shape)
    maps = cifl.shape_maps(args.shape, seed=args.seed)
    validation = cifl.shape_maps(args.shape, seed=args.seed + 1).take(4 * args.batch_size)

    with strategy.scope():
        model = cifl.CIFL(
            cifl.build_encoder(ndim=len(args.shape), num_features=args.num_features),
            cifl.PairSynthesizer(args.shape),
        )
        model.compile(
            keras.optimizers.Adam(
                keras.optimizers.schedules.CosineDecay(1e-3, args.epochs * args.steps_per_epoch)
            ),
            cifl.ContrastiveLoss(crop=cifl.receptive_radius("plain")),
        )

    model.fit(
        maps.batch(args.batch_size).prefetch(2),
        validation_data=validation.batch(args.batch_size),
        epochs=args.epochs,
        steps_per_epoch=args.steps_per_epoch,
        callbacks=[
            keras.callbacks.TensorBoard(args.out / "logs", write_graph=False),
            keras.callbacks.TerminateOnNaN(),
        ],
    )
    model.encoder.save(args.out / "encoder.keras")
    cifl.export_saved_model(model.encoder, args.out / "saved_model")


if __name__ == "__main__":
    main()
