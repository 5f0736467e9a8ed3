"""Read data from files, folders and named data sets, cut windows, write codes and reconstructions, and preprocess rows.

`open` converts a path, the name of a data set or data in memory to a `Dataset`; `windows` cuts a table into windows;
`noise_level` estimates the noise of images and series; `patches` samples patches of images, and `local_contrast`
normalises images.
"""

from isthmus.data.dataset import Conditioned, Dataset, Documents, Paired
from isthmus.data.image_patches import local_contrast, patches
from isthmus.data.images import write_images
from isthmus.data.named import named_sets
from isthmus.data.noise_levels import noise_level
from isthmus.data.readers import open
from isthmus.data.window_cuts import windows
from isthmus.data.writers import write_array

__all__ = [
    "Conditioned",
    "Dataset",
    "Documents",
    "Paired",
    "local_contrast",
    "named_sets",
    "noise_level",
    "open",
    "patches",
    "windows",
    "write_array",
    "write_images",
]
