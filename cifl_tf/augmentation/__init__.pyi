from .intensity import IntensityAugmentation as IntensityAugmentation
from .intensity import IntensityChange as IntensityChange
from .intensity import make_intensity_augmentation as make_intensity_augmentation
from .intensity import remap as remap
from .spatial import Deformation as Deformation
from .spatial import SpatialAugmentation as SpatialAugmentation
from .stripping import RandomStrip as RandomStrip
