from .intensity import IntensityScaling as IntensityScaling
from .intensity import rescale_intensity as rescale_intensity
from .volumes import Volume as Volume
from .volumes import read_volume as read_volume
from .volumes import write_features as write_features
from .warps import read_warp as read_warp
from .warps import write_warp as write_warp
