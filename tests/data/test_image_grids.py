"""Pictures of many images: places, margins, colours and sizes."""

import numpy as np
import pytest
from PIL import Image

from isthmus.data.image_grids import MARGIN_GREY, grid_size, write_grid


def read(path):
    with Image.open(path) as picture:
        return np.asarray(picture)


@pytest.mark.parametrize("shape", [(7, 60, 48), (7, 60, 48, 1), (7, 60, 48, 3), (7, 3, 60, 48)])
def test_image_k_is_in_line_k_over_columns_with_a_margin_around_it(tmp_path, rng, shape):
    images = rng.integers(0, 200, shape, dtype=np.uint8)
    picture = read(write_grid(tmp_path / "grid.png", images, 3))
    assert picture.shape[:2] == grid_size(7, 3, (60, 48)) == (3 * 62 + 2, 3 * 50 + 2)
    shown = np.moveaxis(images, 1, -1) if shape[1] == 3 else images.reshape(7, 60, 48, *shape[3:])
    covered = np.zeros(picture.shape[:2], bool)
    for k in range(7):
        top, left = 2 + k // 3 * 62, 2 + k % 3 * 50
        np.testing.assert_array_equal(picture[top : top + 60, left : left + 48].squeeze(), shown[k].squeeze())
        covered[top : top + 60, left : left + 48] = True
    assert (picture[~covered] == MARGIN_GREY).all()


def test_small_images_are_enlarged_by_a_whole_factor(tmp_path, rng):
    images = rng.integers(0, 200, (2, 8, 6), dtype=np.uint8)
    picture = read(write_grid(tmp_path / "grid.png", images, 2))
    assert picture.shape == (52, 2 * 38 + 2)
    np.testing.assert_array_equal(picture[2:50:6, 2:38:6], images[0])
    np.testing.assert_array_equal(picture[7:50:6, 45:76:6], images[1])


def test_the_value_range_sets_black_and_white(tmp_path):
    images = np.array([-2.0, -1.0, 0.0, 1.0, 3.0]).repeat(48 * 48).reshape(5, 48, 48)
    picture = read(write_grid(tmp_path / "grid.png", images, 5, value_range=(-1, 1)))
    assert picture[10, 10::50].tolist() == [0, 0, 128, 255, 255]


def test_pictures_that_cannot_be_written_are_refused_and_leave_nothing(tmp_path, refused):
    with refused("an array of shape (3, 4) cannot be written as images"):
        write_grid(tmp_path / "grid.png", np.zeros((3, 4)), 2)
    with refused("a picture of 200,000 images would have 1,040,002 x 72 pixels; take fewer rows or steps"):
        write_grid(tmp_path / "grid.png", np.zeros((200_000, 10, 1), np.uint8), 10)
    with refused("the folder", "does not exist"):
        write_grid(tmp_path / "none" / "grid.png", np.zeros((3, 4, 4), np.uint8), 2)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_is_replaced_only_by_force(tmp_path, refused):
    path = tmp_path / "grid.png"
    path.write_bytes(b"precious")
    with refused("grid.png: the file exists; choose another name, or overwrite it with force=True (--force)"):
        write_grid(path, np.zeros((3, 4, 4), np.uint8), 2)
    assert path.read_bytes() == b"precious"
    write_grid(path, np.zeros((3, 4, 4), np.uint8), 2, force=True)
    assert [file.name for file in tmp_path.iterdir()] == ["grid.png"]
    assert read(path).ndim == 2


def test_a_full_disk_leaves_no_file(tmp_path, refused, monkeypatch):
    def save(image, path, **kwargs):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", save)
    with refused("grid.png: could not be written (No space left on device); no file was left"):
        write_grid(tmp_path / "grid.png", np.zeros((3, 4, 4), np.uint8), 2)
    assert list(tmp_path.iterdir()) == []
