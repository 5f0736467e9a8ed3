from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import isthmus.data as data


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "faces").mkdir()
    return tmp_path / "faces"


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


@pytest.mark.parametrize("suffix", ["png", "bmp", "gif", "tif", "PNG"])
def test_greyscale_images_are_read_as_bytes_sorted_by_name(folder, rng, suffix):
    X = rng.integers(0, 256, (3, 5, 4), dtype=np.uint8)
    for row in (2, 0, 1):
        save(folder / f"{row}.{suffix}", X[row])
    read = data.open(folder)
    np.testing.assert_array_equal(read.X, X)
    assert (read.X.dtype, read.name, read.labels) == (np.uint8, "faces", None)
    assert read.row_names == tuple(f"{row}.{suffix}" for row in range(3))
    assert read.notes == ()


def test_colour_images_have_a_last_axis_of_red_green_and_blue(folder, rng):
    X = rng.integers(0, 256, (2, 5, 4, 3), dtype=np.uint8)
    save(folder / "0.png", X[0])
    save(folder / "1.webp", X[1], lossless=True)
    np.testing.assert_array_equal(data.open(folder).X, X)


def test_jpeg_images_are_read_with_small_error(folder):
    save(folder / "0.jpg", np.full((16, 16), 77, np.uint8))
    save(folder / "1.jpeg", np.full((16, 16), 77, np.uint8))
    assert np.abs(data.open(folder).X.astype(int) - 77).max() <= 1


def test_a_palette_image_is_greyscale_only_if_its_palette_is(folder):
    grey = np.array([[10, 200], [30, 40]], np.uint8)
    Image.fromarray(grey).convert("RGB").quantize(4).save(folder / "0.png")
    with Image.open(folder / "0.png") as saved:
        assert saved.mode == "P"
    np.testing.assert_array_equal(data.open(folder).X[0], grey)
    Image.new("RGB", (2, 2), "red").quantize(2).save(folder / "0.png")
    np.testing.assert_array_equal(data.open(folder).X[0, 0, 0], [255, 0, 0])


def test_greyscale_among_colour_images_is_converted_with_a_note(folder):
    save(folder / "0.png", np.full((2, 2), 9, np.uint8))
    save(folder / "1.png", np.zeros((2, 2, 3), np.uint8))
    read = data.open(folder)
    assert read.X[0].tolist() == [[[9] * 3] * 2] * 2
    assert read.notes == ("faces: 1 of 2 images converted from greyscale to RGB",)


def test_one_bit_and_sixteen_bit_images_become_bytes(folder):
    Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1").save(folder / "0.png")
    save(folder / "1.png", np.array([[256, 65535]], np.uint16))
    read = data.open(folder)
    assert read.X.tolist() == [[[0, 255]], [[1, 255]]]
    assert read.notes == ("faces: 1 image reduced from 16 to 8 bits",)


def test_transparent_pixels_are_drawn_on_white(folder):
    grey, alpha = np.array([[100, 100]], np.uint8), np.array([[0, 255]], np.uint8)
    Image.merge("LA", [Image.fromarray(grey), Image.fromarray(alpha)]).save(folder / "0.png")
    read = data.open(folder)
    assert read.X.tolist() == [[[255, 100]]]
    assert read.notes == ("faces: 1 image with transparency drawn on white",)


def test_the_exif_orientation_is_applied(folder):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees clockwise
    Image.fromarray(np.array([[1, 2, 3]], np.uint8)).save(folder / "0.png", exif=exif)
    assert data.open(folder).X.tolist() == [[[1], [2], [3]]]


def test_the_first_frame_of_an_animation_is_read(folder):
    frames = [Image.fromarray(np.full((2, 2), value, np.uint8)) for value in (7, 200)]
    frames[0].save(folder / "0.gif", save_all=True, append_images=frames[1:])
    read = data.open(folder)
    assert np.unique(read.X).tolist() == [7]
    assert "1 file with several frames; only the first was read" in read.notes[0]


def test_sub_folders_are_labels(folder):
    for name in ("cat/1.png", "cat/2.png", "dog/1.png", "0.png"):
        save(folder / name, np.zeros((2, 2), np.uint8))
    read = data.open(folder)
    assert read.row_names == ("0.png", "cat/1.png", "cat/2.png", "dog/1.png")
    assert read.labels.tolist() == [".", "cat", "cat", "dog"]
    assert data.open(folder, split="cat").name == "faces:cat"
    assert data.open(f"{folder}:dog").row_names == ("1.png",)


def test_a_split_without_a_sub_folder_is_refused(folder, refused):
    save(folder / "cat" / "1.png", np.zeros((2, 2), np.uint8))
    with refused(f"{folder}: no sub-folder 'dog' for this split; it has cat"):
        data.open(folder, split="dog")


def test_other_and_hidden_files_are_skipped(folder):
    save(folder / "0.png", np.zeros((2, 2), np.uint8))
    (folder / "._0.png").write_bytes(b"a fork of the file system")
    (folder / "readme.txt").write_text("hello")
    read = data.open(folder)
    assert len(read.X) == 1
    assert read.notes == ("faces: 1 file skipped, such as readme.txt",)


def test_mixed_sizes_are_refused_with_five_examples(folder, refused):
    for i in range(10):
        save(folder / f"a{i}.png", np.zeros((4, 3), np.uint8))
    for i in range(7):
        save(folder / f"b{i}.png", np.zeros((5, 6), np.uint8))
    with refused(
        f"{folder}: 7 of 17 images are not 4x3 (height x width) like the other 10: b0.png 5x6, b1.png 5x6, "
        "b2.png 5x6, b3.png 5x6, b4.png 5x6 and 2 more; resize all with resize=(4, 3) (--resize 4x3)"
    ):
        data.open(folder)


def test_resize_gives_all_images_one_size(folder):
    save(folder / "0.png", np.full((4, 3), 50, np.uint8))
    save(folder / "1.png", np.full((9, 8), 60, np.uint8))
    X = data.open(folder, resize=(6, 5)).X
    assert X.shape == (2, 6, 5)
    assert [np.unique(x).tolist() for x in X] == [[50], [60]]


def test_only_arrays_of_bytes_can_be_resized(refused, rng):
    grey = np.full((2, 4, 4), 9, np.uint8)
    assert data.open(grey, resize=(2, 3)).X.tolist() == [[[9] * 3] * 2] * 2
    assert data.open(np.zeros((2, 4, 4, 3), np.uint8), resize=(2, 3)).X.shape == (2, 2, 3, 3)
    assert data.open(np.zeros((2, 4, 4, 1), np.uint8), resize=(2, 3)).X.shape == (2, 2, 3, 1)
    with refused("only images of bytes (n, h, w) or (n, h, w, c) can be resized; found an array (3, 4) of float64"):
        data.open(np.zeros((3, 4)), resize=(2, 2))
    with refused("found a Documents"):
        data.open(["a text"], resize=(2, 2))
    with refused("resize=(0, 2) must be a height and a width in pixels"):
        data.open(grey, resize=(0, 2))


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"not an image", "cannot identify image file 'bad.png'"), (b"", "an empty file")],
)
def test_a_corrupt_image_is_named(folder, refused, content, words):
    save(folder / "0.png", np.zeros((2, 2), np.uint8))
    (folder / "bad.png").write_bytes(content)
    with refused(f"{folder / 'bad.png'}: not a readable image ({words})", "replace it, or remove it from the folder"):
        data.open(folder)


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "bmp", "tif", "webp"])
def test_a_truncated_image_is_named(folder, refused, rng, suffix):
    path = folder / f"bad.{suffix}"
    save(path, rng.integers(0, 256, (40, 40), dtype=np.uint8))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with refused(f"{path}: not a readable image ("):
        data.open(folder)


def test_a_folder_without_images_is_refused(folder, refused):
    with refused(f"{folder}: no images in this folder; images end in .png, .jpg"):
        data.open(folder)
    (folder / "notes.txt").write_text("")
    with refused("no images in this folder, only 1 other file such as notes.txt"):
        data.open(folder)


def test_pixels_of_thirty_two_bits_are_refused(folder, refused):
    save(folder / "0.tif", np.zeros((2, 2), np.float32))
    with refused("0.tif has 32-bit pixels (1 such image)", "save them with 8 bits"):
        data.open(folder)


def test_a_single_image_file_is_refused(folder, refused):
    save(folder / "0.png", np.zeros((2, 2), np.uint8))
    with refused(f"{folder / '0.png'}: a single image; name the folder that contains the images"):
        data.open(folder / "0.png")


@pytest.mark.parametrize("shape", [(3, 5, 4), (3, 5, 4, 1), (3, 5, 4, 3)])
def test_written_images_are_read_back_unchanged(tmp_path, rng, shape):
    X = rng.integers(0, 256, shape, dtype=np.uint8)
    data.write_images(tmp_path / "out", X)
    np.testing.assert_array_equal(data.open(tmp_path / "out").X.reshape(shape), X)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_images_with_channels_first_are_written(tmp_path, rng):
    X = rng.integers(0, 256, (2, 3, 5, 4), dtype=np.uint8)
    data.write_images(tmp_path / "out", X)
    np.testing.assert_array_equal(data.open(tmp_path / "out").X, np.moveaxis(X, 1, -1))


def test_value_range_sets_black_and_white(tmp_path):
    data.write_images(tmp_path / "out", np.array([[[-2.0, -1.0, 0.0, 1.0, 3.0]]]), value_range=(-1, 1))
    assert data.open(tmp_path / "out").X.tolist() == [[[0, 0, 128, 255, 255]]]


def test_names_of_written_images_keep_their_folders_and_are_unique(tmp_path):
    names = ["cat/1.jpg", "cat/1.gif", "2.png"]
    data.write_images(tmp_path / "out", np.zeros((3, 2, 2), np.uint8), names)
    assert data.open(tmp_path / "out").row_names == ("2.png", "cat/1.gif.png", "cat/1.jpg.png")


def test_row_numbers_as_names_sort_in_row_order(tmp_path):
    data.write_images(tmp_path / "out", np.arange(12, dtype=np.uint8).reshape(12, 1, 1))
    assert data.open(tmp_path / "out").X.ravel().tolist() == list(range(12))


@pytest.mark.parametrize(
    ("images", "names", "words"),
    [
        (np.zeros((3, 4)), None, "an array of shape (3, 4) cannot be written as images"),
        (np.zeros((1, 2, 2)), ["a", "b"], "2 names for 1 image; one name per image"),
        (np.zeros((1, 2, 2)), ["../a"], "the name '../a' lies outside the folder"),
        (np.zeros((1, 2, 2)), ["/a"], "the name '/a' lies outside the folder"),
        (np.zeros((2, 2, 2)), ["a.png", "a.png"], "two images have the name 'a.png.png'"),
        (np.array([[[0.0]], [[np.nan]]]), None, "image 1 contains NaN or infinite pixels"),
    ],
)
def test_invalid_images_and_names_are_refused_and_nothing_is_written(tmp_path, refused, images, names, words):
    with refused(words):
        data.write_images(tmp_path / "out", images, names)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_replaced_only_by_force_and_only_if_it_contains_images(tmp_path, refused):
    out = data.write_images(tmp_path / "out", np.zeros((3, 2, 2), np.uint8))
    with refused(f"{out}: the folder exists; choose another name, or replace it with force=True (--force)"):
        data.write_images(out, np.ones((1, 2, 2), np.uint8))
    assert len(data.open(out).X) == 3
    data.write_images(out, np.ones((1, 2, 2), np.uint8), force=True)
    assert data.open(out).X.tolist() == [[[1, 1], [1, 1]]]
    (out / "thesis.tex").write_text("years of work")
    with refused("contains files that are not PNG, such as thesis.tex, and is never replaced"):
        data.write_images(out, np.zeros((1, 2, 2), np.uint8), force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_unwritable_folder_raises(tmp_path, refused):
    with refused("out: could not be written (No such file or directory)"):
        data.write_images(tmp_path / "missing" / "out", np.zeros((1, 2, 2), np.uint8))
    (tmp_path / "file").write_text("")
    with refused("file: a file with this name exists"):
        data.write_images(tmp_path / "file", np.zeros((1, 2, 2), np.uint8))


def test_a_full_disk_leaves_no_files(tmp_path, refused, monkeypatch):
    whole = Image.Image.save

    def save(image, path, *args, **kwargs):
        if path.name == "1.png":
            raise OSError(28, "No space left on device")
        whole(image, path, *args, **kwargs)

    monkeypatch.setattr(Image.Image, "save", save)
    with refused("out: could not be written (No space left on device); no files were left"):
        data.write_images(tmp_path / "out", np.zeros((3, 2, 2), np.uint8))
    assert list(tmp_path.iterdir()) == []
