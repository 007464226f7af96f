"""Registration networks out of training folders and files."""

from cifl_tf.images.atomic import expanded
from cifl_tf.models.files import REGISTRATION, load_network
from cifl_tf.registration.network import RegistrationNetwork
from cifl_tf.training.folder import (
    CONFIG_FILE,
    read_config,
)

REGISTRATION_FILE = "registration.keras"


def load_registration(folder) -> RegistrationNetwork:
    """Load a registration network.

    Args:
        folder: of ``train_registration``, or the file ``registration.keras`` itself. The plane of
            the slices of one from before version 0.2 is in the ``config.json`` beside it.

    Raises:
        ValueError: there is none yet, or the file is damaged.
    """
    path = expanded(folder)
    file = path if path.is_file() else path / REGISTRATION_FILE
    network = load_network(file, REGISTRATION)
    unknown = len(network.shape) == 2 and network.preprocessing.plane is None
    if unknown and (file.parent / CONFIG_FILE).exists():
        plane = read_config(file.parent)["plane"]
        network.preprocessing = network.preprocessing.with_choices(plane)
    return network
