from .network import build_tissue_network as build_tissue_network
from .registration import register_brains as register_brains
from .segment import TissueResult as TissueResult
from .segment import segment_tissues as segment_tissues
from .training import train_tissues as train_tissues
