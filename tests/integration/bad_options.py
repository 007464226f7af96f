"""Values of options that no command may accept.

In the values ``{image}``, ``{encoder}`` and the like stand for files of its ``world``.
"""

HELPERS = ("{file}", "{broken}", "{file}/inside")
NUMBERS = ("nan", "inf", "-1", "0", "text")
OUT = [*HELPERS, ""]
MODEL = ["{missing}", "{empty}", "{file}", "{image}", "{broken}", ""]
SIZES = ["0", "-1", "nan", "inf", "1e-6", "text", "2,2"]
NDIM = ["0", "1", "4", "-2", "2.5", "nan"]
PLANES = ["oblique", "Coronal", "0"]
MEMORIES = ["2", "0G", "-1G", "G", "1e3M", "nan", "", "1M"]
WINDOWS = ["80,0", "1,1", "nan,1", "0,inf", "1", "1,2,3", "a,b", ","]
ENSEMBLES = ["t2", "gamma,gamma", "none,gamma", ",", "inverted;gamma"]
FRAMES = ["-1", "99", "1.5", "nan"]
SEEDS = ["-1", "4294967296", "0.5", "nan"]
DATA = ["{missing}", "{file}", "{empty}", "", "virtual:0", "virtual:-3", "{data}:ses-09"]
SUBJECTS = ["nobody", "1,nobody", ",", "1,1"]
COHORTS = {
    "--data": DATA,
    "--segmentation": ["nothing", "seg4", "../tissue"],
    "--contrast": ["PD", "T1w:bright", ":inverted", "T1w:"],
    "--train-subjects": ["nobody", ","],
    "--test-subjects": ["nobody", ",", "1,2,3,4"],
    "--validation-subjects": ["nobody", "1,2,3,4"],
    "--ndim": NDIM,
    "--voxel-size": [*SIZES, "1e9"],
    "--plane": PLANES,
    "--num-slices": ["0", "-1", "99999", "1.5"],
    "--center-label": ["nowhere", "0"],
    "--remappings": ENSEMBLES,
    "--steps": ["0", "-5", "1.5", "nan"],
    "--num-filters": ["0", "-4", "1.5"],
    "--batch-size": ["-1", "1000000000", "2.5"],
    "--learning-rate": NUMBERS,
    "--random-contrast": ["nan", "-0.1", "1.5", "text"],
    "--seed": SEEDS,
    "--encoder": ["{segmenter}", "{registration}", *MODEL],
    "--out": OUT,
}
# By command: what is right, and by option the values that are wrong in its place.
OPTIONS: dict[str, tuple[str, dict[str, list[str]]]] = {
    "train": (
        "--out {out}",
        {
            "--ndim": NDIM,
            "--shape": ["0,0", "-96,96", "96", "96,96,96", "96,", "a,b", "8,8", "", "9000000,96"],
            "--num-features": ["0", "1", "-4", "nan"],
            "--num-filters": ["0", "-4", "1.5"],
            "--architecture": ["resnet"],
            "--scales": ["nan", "0", "", "4;8", "100000"],
            "--noise-std": ["1", "2,1", "nan,1", "0,inf", "1,2,3"],
            "--blur-std": ["0,1000000", "-1,0"],
            "--bias-std": ["nan,nan"],
            "--thickness-std": ["-1", "nan", "1000"],
            "--steps": ["0", "-1", "nan"],
            "--batch-size": ["0", "-1", "1000000000"],
            "--tau-alpha": ["0", "nan"],
            "--tau-beta": ["-1"],
            "--tau-gamma": ["inf"],
            "--window": ["-8", "0.5"],
            "--crop": ["-1", "1000"],
            "--learning-rate": ["0", "nan", "inf"],
            "--precision": ["float8"],
            "--seed": SEEDS,
            "--labels": ["{missing}", "{file}", "{empty}"],
            "--initial": [*MODEL, "{segmenter}"],
            "--out": OUT,
        },
    ),
    "strip": (
        "{image} --model {stripper} --out {out}",
        {
            "--model": ["{segmenter}", "{registration}", "{encoder_3d}", "shapes-3d", *MODEL],
            "--border": ["nan", "inf", "-21", "1000", "wide"],
            "--volume-index": ["1", "-1", "0.5"],
            "--out": OUT,
        },
    ),
    "features": (
        "{image} --model {encoder} --out {out}",
        {
            "--model": ["{segmenter}", "{registration}", "intensity", *MODEL],
            "--plane": PLANES,
            "--voxel-size": SIZES,
            "--volume-index": FRAMES,
            "--remappings": ENSEMBLES,
            "--window": WINDOWS,
            "--memory": MEMORIES,
            "--out": OUT,
        },
    ),
    "segment train": (
        "--encoder intensity --data {data} --out {out}",
        {
            **COHORTS,
            "--cached-copies": ["0", "-1"],
            "--patch": ["-8", "0"],
            "--zoom": ["0", "1", "nan"],
            "--patience": ["0", "-1"],
        },
    ),
    "segment apply": (
        "{image} --model {segmenter} --out {out}",
        {
            "--model": ["{encoder}", "{registration}", "shapes-2d", *MODEL],
            "--voxel-size": SIZES,
            "--volume-index": FRAMES,
            "--window": WINDOWS,
            "--memory": MEMORIES,
            "--out": OUT,
        },
    ),
    "segment export": ("--model {segmenter} --out {out}", {"--model": MODEL, "--out": OUT}),
    "register train": (
        "--encoder intensity --data {data} --out {out}",
        {
            **COHORTS,
            "--similarity": ["labels"],
            "--loss": ["mae"],
            "--smoothness": ["-1", "nan", "inf"],
            "--label-weight": ["-1", "nan"],
            "--num-cascades": ["0", "-1"],
            "--int-steps": ["-1", "31", "0.5"],
            "--int-resolution": ["0", "-2"],
        },
    ),
    "register apply": (
        "{image} {image} --model {registration} --out {out}",
        {
            "--model": ["{encoder}", "{segmenter}", "intensity", *MODEL],
            "--labels": ["{missing}", "{file}", "{image}"],
            "--voxel-size": SIZES,
            "--moving-volume-index": FRAMES,
            "--fixed-volume-index": FRAMES,
            "--moving-window": WINDOWS,
            "--fixed-window": WINDOWS,
            "--out": OUT,
        },
    ),
    "register optimize": (
        "{image} {image} --model intensity --out {out}",
        {
            "--model": ["{segmenter}", "{registration}", *MODEL],
            "--ndim": NDIM,
            "--plane": PLANES,
            "--remappings": ENSEMBLES,
            "--labels": ["{missing}", "{file}", "{image}"],
            "--voxel-size": [*SIZES, "1e9"],
            "--moving-volume-index": FRAMES,
            "--moving-window": WINDOWS,
            "--out": OUT,
        },
    ),
    "register pair": (
        "{image} {image} --model {encoder_3d} --out {out}",
        {
            "--stages": ["nonlinear", "rigid,nonlinear", "RIGID"],
            "--model": ["{segmenter}", "{registration}", "{encoder}", "intensity", *MODEL],
            "--remappings": ENSEMBLES,
            "--labels": ["{missing}", "{file}", "{image}"],
            "--initial": ["{missing}", "{file}", "{image}", "{empty}"],
            "--moving-mask": ["{missing}", "{file}"],
            "--fixed-mask": ["{missing}", "{file}"],
            "--voxel-size": [*SIZES, "1e9"],
            "--moving-volume-index": FRAMES,
            "--fixed-volume-index": FRAMES,
            "--moving-window": WINDOWS,
            "--fixed-window": WINDOWS,
            "--out": OUT,
        },
    ),
    "register export": ("--model {registration} --out {out}", {"--model": MODEL, "--out": OUT}),
    "evaluate": (
        "--model {encoder} --contrast T1w,FLAIR --data {data} --out {out}",
        {
            "--model": ["intensity", *MODEL],
            "--contrast": ["PD", "T1w:bright", ",", "T1w", ""],
            "--data": DATA,
            "--segmentation": ["nothing"],
            "--subjects": SUBJECTS,
            "--moving-contrast": ["T1w"],
            "--against": ["{missing}", "{empty}", "{file}", "{data}"],
            "--ndim": NDIM,
            "--plane": PLANES,
            "--num-slices": ["0", "-1", "99999", "nan"],
            "--center-label": ["nowhere"],
            "--out": OUT,
        },
    ),
    "export": (
        "--model {encoder} --out {out}",
        {"--model": ["{segmenter}", "intensity", *MODEL], "--out": [*OUT, "{data}"]},
    ),
    "demo": (
        "--model {encoder} --out {out}",
        {"--model": ["{segmenter}", "intensity", *MODEL], "--out": OUT},
    ),
}
# Whole commands, and a part of the message.
COMMANDS: list[tuple[str, str]] = [
    ("info nobody", "there are no pretrained weights 'nobody'"),
    ("info ../shapes-2d", "there are no pretrained weights"),
    ("nonsense", "No such command"),
    ("strip --out {out}", "Missing argument"),
    ("strip {image}", "Missing option"),
    ("strip {image} {image} --model {stripper} --out {out}", "would both become"),
    ("features --model {encoder} --out {out}", "Missing argument"),
    ("features {image} --model {encoder}", "Missing option"),
    ("features {image} --nonsense --out {out}", "No such option"),
    ("features {image} {image} --model {encoder} --out {out}", "would both become"),
    ("segment apply {image} --out {out}", "Missing option"),
    ("register apply {image} --model {registration} --out {out}", "Missing argument"),
    ("register optimize {image} {image} {image} --out {out}", "unexpected extra argument"),
    ("register {image} --model {encoder_3d} --out {out}", "there is no fixed image"),
    ("register {image} {image}", "Missing option"),
    ("register --out {out} {image} {image} {image}", "unexpected extra argument"),
    ("register nonsense", "No such command"),
    ("register optimize {image} {image} --model shapes-3d --ndim 2 --out {out}", "ndim"),
    ("demo --train --model {encoder} --out {out}", "--train trains an encoder"),
    (
        "segment train --encoder intensity --data {data} --flip --plane sagittal --out {out}",
        "--flip mirrors left and right",
    ),
    (
        "segment train --encoder shapes-3d --data {data} --ndim 2 --out {out}",
        "3D",
    ),
    (
        "segment train --encoder intensity --data {data} --test-subjects sub-1 "
        "--validation-subjects sub-1 --out {out}",
        "choose one",
    ),
    (
        "register train --encoder intensity --data {data} --validation-subjects sub-1 --out {out}",
        "pairs are of different subjects",
    ),
    ("segment train --encoder intensity --data {data} --segmentation none --out {out}", "label"),
    (
        "evaluate --model syn --optimize --contrast T1w --data {data} --out {out}",
        "leave --optimize out",
    ),
    (
        "evaluate --model {segmenter} --optimize --contrast T1w --data {data} --out {out}",
        "--optimize is for registrations",
    ),
    (
        "evaluate --model {segmenter} --moving-contrast T1w --contrast T1w --data {data} "
        "--out {out}",
        "is for registrations",
    ),
]
