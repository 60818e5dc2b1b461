"""Data sets, and a loader that makes batches of them."""

from ._delay_copy import delay_copy as delay_copy, DelayCopy as DelayCopy
from ._delayed_xor import delayed_xor as delayed_xor, DelayedXOR as DelayedXOR
from ._digits import digits as digits
from ._heidelberg import Recordings as Recordings, shd as shd, ssc as ssc
from ._images import image_row_spikes as image_row_spikes, image_spikes as image_spikes, Images as Images
from ._loader import Loader as Loader
from ._mnist import fashion_mnist as fashion_mnist, mnist as mnist
from ._nmnist import nmnist as nmnist
from ._split import Split as Split
from ._spoken_digits import spoken_digits as spoken_digits
from ._yin_yang import yin_yang as yin_yang, yin_yang_spikes as yin_yang_spikes, YinYang as YinYang
