from .scores import feature_scores as feature_scores
from .scores import registration_scores as registration_scores
from .scores import segmentation_scores as segmentation_scores
