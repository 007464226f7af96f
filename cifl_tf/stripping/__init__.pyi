from .heads import Head as Head
from .heads import read_head as read_head
from .network import build_stripper as build_stripper
from .stripper import StrippedHead as StrippedHead
from .stripper import Stripper as Stripper
from .stripper import strip as strip
from .training import train_stripper as train_stripper
