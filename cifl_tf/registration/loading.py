"""Registration networks out of training folders and files."""

from cifl_tf.registration.network import REGISTRATION_FILE as REGISTRATION_FILE
from cifl_tf.registration.network import Registration


def load_registration(folder) -> Registration:
    """``Registration.from_pretrained``."""
    return Registration.from_pretrained(folder)
