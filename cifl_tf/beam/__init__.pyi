from .files import ReadNifti as ReadNifti
from .files import WriteNifti as WriteNifti
from .models import SavedModelHandler as SavedModelHandler
