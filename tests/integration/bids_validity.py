"""The validator of the BIDS standard itself, on folders that commands wrote."""

import json
import subprocess
import sys
from pathlib import Path

VALIDATOR = Path(sys.executable).with_name("bids-validator-deno")


def bids_errors(folder):
    """What the validator calls an error in a dataset; warnings are left out."""
    done = subprocess.run(
        [VALIDATOR, folder, "--format", "json"],
        check=False,  # it fails where there are errors
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    issues = json.loads(done.stdout)["issues"]["issues"]
    return [(one["code"], one.get("location")) for one in issues if one["severity"] == "error"]
