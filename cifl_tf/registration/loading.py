"""Registration networks out of training folders and files."""

from cifl_tf.registration.network import Registration
from cifl_tf.registration.settings import REGISTRATION_FILE as REGISTRATION_FILE


def load_registration(folder) -> Registration:
    """``Registration.from_pretrained``."""
    return Registration.from_pretrained(folder)
