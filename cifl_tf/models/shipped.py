"""Names of the models that ship, beside the encoders: each is a folder of ``cifl_tf/weights``."""

STRIPPER = "strip"
TISSUES = "tissues"
