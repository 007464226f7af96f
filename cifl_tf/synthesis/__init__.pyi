from .label_folder import segmentation_maps as segmentation_maps
from .pairs import Appearance as Appearance
from .pairs import PairSynthesizer as PairSynthesizer
from .shapes import shape_maps as shape_maps
