"""The ``cifl`` command."""
