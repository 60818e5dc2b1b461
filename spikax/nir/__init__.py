"""Networks and spikes in the Neuromorphic Intermediate Representation (NIR). Requires `pip install 'spikax[nir]'`."""

from ._convention import Dirac as Dirac, Euler as Euler, Rectangle as Rectangle
from ._data import from_nir_data as from_nir_data, to_nir_data as to_nir_data
from ._read import from_nir as from_nir
from ._write import to_nir as to_nir
