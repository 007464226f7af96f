"""Memory and time of the features of a large volume: in slabs, as a whole, and bare convolutions.

Prints, for this machine, one line for each memory that is given to ``bounded_features`` and
``save_channels``, as `cifl features --memory` does ("default" is no such option); one for the Keras
model on the whole volume at a time; and one for the same convolutions as bare tf.nn calls. Each
runs in a process of its own. Seconds are those of the processor; peak memory is of all that the
process has, libraries included. The features of each memory are compared with those of the whole
volume.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd

from cifl_tf.cli.parsing import parse_memory, parse_numbers
from cifl_tf.images.memory import peak_memory, size_text

ENCODER = "shapes-3d"
NAMES = {"whole": "whole volume", "bare": "bare tf.nn", "default": "no --memory"}


def write_head(path, shape, extent):
    """An ellipsoid of noisy stripes in air, as int16, over this share of every axis."""
    rng = np.random.default_rng(0)
    x, y, z = np.ogrid[tuple(slice(-1, 1, size * 1j) for size in shape)]
    head = 300 + 200 * np.sin(9 * x * y + 7 * z)
    head[x**2 + y**2 + z**2 > extent**2] = 0
    head[head > 0] += rng.normal(0, 20, np.count_nonzero(head > 0))
    image = nibabel.Nifti1Image(head.round().astype(np.int16), np.diag([-1, 1, 1, 1]))
    nibabel.save(image, path)


def measure(which, folder):
    """In a process of its own: encode and write; print seconds of both, and the peak in MB."""
    image, file = folder / "image.nii", folder / f"{which}.nii"
    encoder, load = _loaded()
    start = time.process_time()
    if which == "bare":
        from speed import bare_convolutions

        array = load(image)
        run = bare_convolutions(encoder)
        start = time.process_time()
        run(array[None, ..., None])
        seconds = [time.process_time() - start, 0.0]
    elif which == "whole":
        from cifl_tf.images.channels import save_channels
        from cifl_tf.images.volumes import read_volume

        volume, array = read_volume(str(image)), load(image)
        start = time.process_time()
        found = encoder.predict_on_batch(array[None, ..., None])[0]
        middle = time.process_time()
        save_channels(found, volume, file)
        seconds = [middle - start, time.process_time() - middle]
    else:
        from cifl_tf.features.bounded import bounded_features
        from cifl_tf.images.channels import save_channels

        memory = None if which == "default" else parse_memory(which)
        with bounded_features(str(image), encoder, file, memory=memory) as (features, volume):
            middle = time.process_time()
            save_channels(features, volume, file)
        seconds = [middle - start, time.process_time() - middle]
    print(json.dumps([*seconds, peak_memory()]))


def _loaded():
    """The encoder, and a function that reads an image as it takes it."""
    import cifl_tf as cifl
    from cifl_tf.images.volumes import read_volume

    encoder = cifl.load_encoder(ENCODER)
    return encoder, lambda path: cifl.rescale_intensity(read_volume(str(path)).data)


def largest_difference(folder, which):
    """Of the features in two files, plane by plane."""
    one, other = (nibabel.load(folder / f"{name}.nii").dataobj for name in (which, "whole"))
    planes = (np.abs(one[:, :, z] - other[:, :, z]).max() for z in range(one.shape[2]))
    return max(map(float, planes))


def main(argv=None):
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="256,256,256", help="of the volume, in voxels")
    parser.add_argument(
        "--extent", default=0.9, type=float, help="share of every axis that shows something"
    )
    parser.add_argument("--memory", default="1.5G,2G,default", help="sizes, with commas between")
    parser.add_argument(
        "--bounded-only", action="store_true", help="not the whole volume, and no bare convolutions"
    )
    parser.add_argument("--turns", default=1, type=int, help="of all rows; medians are printed")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help="for files of as many bytes as the features")
    arguments = parser.parse_args(argv)
    if arguments.measure:
        measure(arguments.measure, arguments.folder)
        return
    shape = parse_numbers(arguments.shape, "--shape", int)
    others = [] if arguments.bounded_only else ["bare", "whole"]
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        write_head(folder / "image.nii", shape, arguments.extent)
        print(f"{ENCODER}, volume of {'x'.join(map(str, shape))}, {arguments.turns} turns")
        rows, differences = [], {}
        for turn in range(arguments.turns):
            for which in [*others, *arguments.memory.split(",")]:
                command = [sys.executable, __file__, "--measure", which, "--folder", folder]
                seconds, writing, peak = json.loads(subprocess.check_output(command, text=True))
                rows.append({"which": which, "encoding": seconds, "writing": writing, "MB": peak})
                if turn == 0 and others and which not in others:
                    differences[which] = largest_difference(folder, which)
                if which != "whole":
                    (folder / f"{which}.nii").unlink(missing_ok=True)
    table = pd.DataFrame(rows)
    medians = table.groupby("which", sort=False).median()
    for which, row in medians.iterrows():
        parts = [f"{row['encoding']:.0f} s", f"peak {size_text(row['MB'] * 1024**2)}"]
        if which != "bare":
            parts.insert(1, f"writing {row['writing']:.0f} s")
        if others and which != "bare":
            ratio = row["encoding"] / medians.loc["bare", "encoding"]
            parts.append(f"{ratio:.2f} times bare")
        if which in differences:
            parts.append(f"largest difference {differences[which]:.1e}")
        print(f"    {NAMES.get(which, f'--memory {which}')}: {', '.join(parts)}", flush=True)


if __name__ == "__main__":
    main()
