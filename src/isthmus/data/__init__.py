"""The data room: readers of files, folders and named sets, writers of codes and reconstructions, preprocessing.

`open` is the way in: it turns a path, a name or what is already in memory into a `Dataset`.
"""

from isthmus.data.dataset import Dataset, Documents
from isthmus.data.images import write_images
from isthmus.data.named import named_sets
from isthmus.data.readers import open
from isthmus.data.writers import write_array

__all__ = ["Dataset", "Documents", "named_sets", "open", "write_array", "write_images"]
