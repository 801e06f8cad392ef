"""Deep learning from its foundations: a book, and the library that its chapters build"""

# Written by `make export` from the tables in __init__.py.

from . import activations as activations
from . import autograd as autograd
from . import capture as capture
from . import comparing as comparing
from . import convolution as convolution
from . import datasets as datasets
from . import estimators as estimators
from . import exchange as exchange
from . import initialization as initialization
from . import kernels as kernels
from . import layers as layers
from . import optim as optim
from . import optimizers as optimizers
from . import outputs as outputs
from . import parallel as parallel
from . import plotting as plotting
from . import schedules as schedules
from . import training as training
from .autograd import Tensor as Tensor
from .autograd import draw as draw
from .autograd import grad as grad
from .autograd import grad_check as grad_check
from .autograd import no_grad as no_grad
from .kernels import backend as backend
from .kernels import show_config as show_config
from .layers import Linear as Linear
from .layers import MLP as MLP
from .layers import Module as Module
from .layers import Sequential as Sequential
from .training import Loader as Loader
from .training import Trainer as Trainer
from .training import callbacks as callbacks
from .training import checkpoints as checkpoints
from .training import loader as loader

__version__: str
