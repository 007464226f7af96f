"""Registration networks out of training folders and files."""

from cifl_tf.registration.network import Registration
from cifl_tf.registration.settings import REGISTRATION_FILE as REGISTRATION_FILE


def load_registration(folder) -> Registration:
    """``Registration.from_pretrained``.

    Example:
        >>> import cifl_tf as cifl
        >>> network = cifl.Registration(None, (24, 20), num_filters=2, int_steps=0)
        >>> network.save("registration.keras")
        >>> cifl.load_registration("registration.keras").shape
        (24, 20)
    """
    return Registration.from_pretrained(folder)
