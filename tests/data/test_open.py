import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from condgan.data.open import read
from condgan.data.preprocessing import Crop, Preprocessing, pixels
from condgan.data.readers.digits import digits
from condgan.types import to_float, to_uint8
from condgan.utils.errors import UserError
from tests.conftest import write_image


def test_pixels_survive_the_way_to_floats_and_back() -> None:
    every = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    assert torch.equal(to_uint8(to_float(every)), every)
    assert to_float(every).min() == -1
    assert to_float(every).max() == 1


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("crop", ["center", "pad"])
def test_digits_are_decoded_as_any_picture_is(channels: int, crop: Crop) -> None:
    preprocessing = Preprocessing(20, 36, channels, crop, background=(32, 64, 128))
    data = digits(preprocessing)
    grays = load_digits(return_X_y=True)[0]
    for place in (0, 7, 100):
        number = int(data.train.names[place].removeprefix("digit-").removesuffix(".png"))
        picture = Image.fromarray((grays[number] * (255 / 16)).round().astype(np.uint8).reshape(8, 8))
        assert np.array_equal(np.asarray(data.train.images[place]), pixels(picture, preprocessing))


def test_digits_are_split_stratified_and_apart() -> None:
    data = read("digits", 8, 1)
    assert len(data.train) + len(data.held_out) == 1797
    counts = torch.bincount(data.held_out.labels.index())
    assert all(abs(int(n) - 0.2 * k) <= 0.5 for n, k in zip(counts, np.bincount(load_digits().target), strict=True))
    train = {image.numpy().tobytes() for image in data.train.images}
    assert not train & {image.numpy().tobytes() for image in data.held_out.images}
    both = torch.cat([data.train.images, data.held_out.images]).flatten(1).double().mean(1).sort().values
    original = torch.tensor(load_digits().images * 255 / 16).round().flatten(1).mean(1).sort().values
    assert torch.allclose(both, original)
    assert read("digits", 16, 1).content_hash == read("digits", 16, 1).content_hash != data.content_hash


@pytest.mark.parametrize("channels", [1, 3])
def test_folders_of_any_modes_and_sizes_become_one(photos: Path, channels: int) -> None:
    data = read(str(photos), 16, channels)
    assert data.spec.classes == ("apple", "banana", "cherry")
    assert data.shape == (channels, 16, 16)
    assert torch.bincount(data.train.labels.index()).tolist() == [7, 7, 7]
    assert torch.bincount(data.held_out.labels.index()).tolist() == [1, 1, 1]
    means = [data.train.images[data.train.labels.index() == i].float().mean() for i in range(3)]
    assert means[0] < means[1] < means[2]


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_zip_is_read_like_its_folder(photos: Path, tmp_path: Path, wrapped: bool) -> None:
    (photos / "apple" / ".DS_Store").write_text("hidden")
    (photos / "LICENSE").write_text("beside the classes")
    root = photos.parent if wrapped else photos
    archive = shutil.make_archive(str(tmp_path / "made"), "zip", root, "photos" if wrapped else ".")
    assert read(archive, 16, 3).content_hash == read(str(photos), 16, 3).content_hash


def test_a_test_folder_is_held_out(photos: Path, tmp_path: Path) -> None:
    root = tmp_path / "split"
    shutil.copytree(photos, root / "train")
    for i, name in enumerate(("apple", "banana", "cherry")):
        write_image(root / "test" / name / "x.png", 60 * i + 50)
    data = read(str(root), 16, 1)
    assert (len(data.train), len(data.held_out)) == (24, 3)
    shutil.rmtree(root / "test" / "apple")
    with pytest.raises(UserError, match="class 'apple' has 0 readable images in the held-out split"):
        read(str(root), 16, 1)


def test_classes_in_numbers_are_in_order(tmp_path: Path) -> None:
    for name in ("10", "9", "1", "x"):
        for j in range(2):
            write_image(tmp_path / "data" / name / f"{j}.png", 50 + j)
    assert read(str(tmp_path / "data"), 8, 1).spec.classes == ("1", "9", "10", "x")


def test_images_are_converted_by_the_stated_rule(tmp_path: Path) -> None:
    clear = np.zeros((12, 12, 4), np.uint8)
    deep = np.full((12, 12), 40_000, np.uint16)
    tall = np.zeros((36, 12), np.uint8)
    tall[12:24] = 200
    cmyk = Image.new("CMYK", (12, 12), (255, 255, 0, 0))
    cases = [(Image.fromarray(clear), 255), (Image.fromarray(deep), round(40_000 / 257)), (Image.fromarray(tall), 200)]
    for i, (image, _) in enumerate([*cases, (cmyk, None)]):
        for name in ("a", "b"):
            (tmp_path / "data" / name).mkdir(parents=True, exist_ok=True)
            image.save(tmp_path / "data" / name / f"{i}.{'tiff' if image.mode == 'CMYK' else 'png'}")
    data = read(str(tmp_path / "data"), 12, 1)
    found = {int(image.float().mean().round()) for image in data.train.images} | {
        int(data.held_out.images[0].float().mean())
    }
    assert {value for _, value in cases} <= found


def test_exif_rotation_is_undone(tmp_path: Path) -> None:
    pixels = np.zeros((12, 12, 3), np.uint8)
    pixels[:6] = 255
    exif = Image.Exif()
    exif[0x0112] = 3
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for j in range(2):
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{j}.jpg", exif=exif)
    image = read(str(tmp_path / "data"), 12, 1).train.images[0, 0]
    assert image[6:].float().mean() > 200 > image[:6].float().mean()


def test_unreadable_images_are_named_or_left_out(photos: Path) -> None:
    whole = (photos / "banana" / "1.png").read_bytes()
    (photos / "banana" / "1.png").write_bytes(whole[: len(whole) // 2])
    (photos / "cherry" / "notes.png").write_text("not an image")
    with pytest.raises(UserError, match=r"2 unreadable images.*banana/1.png' of class 'banana'.*--skip-bad"):
        read(str(photos), 16, 1)
    data = read(str(photos), 16, 1, skip_bad_images=True)
    assert len(data.skipped) == 2
    assert len(data.train) + len(data.held_out) == 23


def test_bad_data_is_one_clear_line(photos: Path, tmp_path: Path) -> None:
    def refused(path: Path, match: str) -> None:
        with pytest.raises(UserError, match=match):
            read(str(path), 16, 1)

    refused(tmp_path / "nowhere", "does not exist")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "is empty")
    (tmp_path / "flat").mkdir()
    shutil.copy(photos / "apple" / "0.png", tmp_path / "flat")
    refused(tmp_path / "flat", "has 1 readable image in")
    (photos / "durian").mkdir()
    refused(photos, "class folder 'durian' of .* has no image")
    (photos / "durian").rmdir()
    write_image(photos / "elderberry" / "0.png")
    refused(photos, "class 'elderberry' has 1 readable image in .*: at least 2 needed")
    (tmp_path / "text").write_text("hello")
    refused(tmp_path / "text", "neither a folder nor a complete zip file")
    shutil.copytree(photos, tmp_path / "split" / "train")
    shutil.copytree(photos, tmp_path / "split" / "more")
    refused(tmp_path / "split", r"the folders more, train: expected train/")


@pytest.mark.parametrize(
    "member", ["../evil/0.png", "/evil/0.png", "a/../../evil.png", "..\\evil\\0.png", "C:\\evil\\0.png"]
)
def test_a_zip_that_points_outside_is_refused(tmp_path: Path, member: str) -> None:
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr("a/0.png", b"")
        archive.writestr(member, b"")
    with pytest.raises(UserError, match="refused: its member"):
        read(str(tmp_path / "evil.zip"), 16, 1)


def test_a_damaged_zip_is_refused(photos: Path, tmp_path: Path) -> None:
    path = Path(shutil.make_archive(str(tmp_path / "made"), "zip", photos))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UserError, match="neither a folder nor a complete zip file"):
        read(str(path), 16, 1)
    path = Path(shutil.make_archive(str(tmp_path / "made"), "zip", photos))
    whole = bytearray(path.read_bytes())
    start = whole.index(b"PK\x01\x02")
    whole[start : start + 4] = b"oops"
    path.write_bytes(whole)
    with pytest.raises(UserError, match="is damaged"):
        read(str(path), 16, 1)


def test_links_are_followed_but_not_in_circles(photos: Path, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    linked.mkdir()
    for name in ("apple", "banana", "cherry"):
        (linked / name).symlink_to(photos / name)
    assert read(str(linked), 16, 1).content_hash == read(str(photos), 16, 1).content_hash
    (photos / "apple" / "round").symlink_to(photos / "apple")
    assert read(str(photos), 16, 1).content_hash == read(str(linked), 16, 1).content_hash
    (photos / "apple" / "gone.png").symlink_to(tmp_path / "nothing.png")
    with pytest.raises(UserError, match=r"unreadable image 'apple/gone.png' of class 'apple'"):
        read(str(photos), 16, 1)


def test_a_share_of_the_digits_is_held_out() -> None:
    data = read("digits", 16, 1, held_out=0.9)
    assert (len(data.train), len(data.held_out)) == (145, 1293)
    assert set(data.train.names).isdisjoint(data.held_out.names)
    with pytest.raises(ValueError, match="whose images are split as they are"):
        read("tinted-digits", 16, 3, held_out=0.9)
    with pytest.raises(ValueError, match="share of 2 to hold out given"):
        read("digits", 16, 1, held_out=2.0)
