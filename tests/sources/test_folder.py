"""Directories and zips: the same listing, the same order, the same pixels; faults named."""

import io
import json
import os
import pickle
import socket
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, features

from pgmetrics import sources
from pgmetrics.errors import SourceError
from pgmetrics.sources.audit import audit
from pgmetrics.sources.base import sequence
from pgmetrics.sources.folder import natural
from pgmetrics.sources.wrappers import Mirrored, Subset
from tests.helpers.image_files import encoded, pixels, write, write_zip

IMAGES = pixels(6)
# Sorted naturally, folder by folder, without suffix: "9" before "10", capitals before small letters.
NAMES = ["B/9.png", "B/10.png", "a/x.PNG", "a/y/z.png", "Z.png", "é.png"]
SORTED = ["B/9.png", "B/10.png", "Z.png", "a/x.PNG", "a/y/z.png", "é.png"]


def contents():
    return {name: encoded(image) for name, image in zip(NAMES, IMAGES, strict=True)}


def test_order_is_natural(tmp_path):
    # Catches the order of the file system, of the zip, and of characters.
    source = sources.open_source(write(tmp_path / "set", contents()))
    assert source.names == SORTED
    np.testing.assert_array_equal(
        source.batch(range(6)).transpose(0, 2, 3, 1), IMAGES[[NAMES.index(name) for name in SORTED]]
    )


def test_other_tools_take_files_by_their_characters(tmp_path):
    # Wrong: a preset that takes the first images of our order, where the tool takes 10.png before 2.png.
    source = sources.open_source(write(tmp_path / "set", contents()))
    assert [source.names[i] for i in source.by_characters] == sorted(NAMES)
    assert list(Mirrored(source, 0).by_characters) == list(source.by_characters)
    assert Subset(source, 1, 4).by_characters == range(3)


def test_numbers_count_by_value_and_suffixes_not_at_all():
    listed = [
        "1.webp", "01.png", "2.png", "2b.png", "10.bmp", "a.png", "a/2.png", "a/10.png", "a1/1.png",
        "a2/0.png", "a10/0.png", "img1.b2.png", "img1.b10.png", "img" + "9" * 5000 + ".png", "x.jpg",
        "x.png",
    ]  # fmt: skip
    listed[:2] = sorted(listed[:2])  # alike but for zeros and suffix: by their characters
    for shift in range(len(listed)):
        assert sorted(listed[shift:] + listed[:shift], key=natural) == listed


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_is_its_unpacked_directory(tmp_path, method):
    path = write_zip(tmp_path / "set.zip", contents(), method)
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "set")
    zipped, unpacked = sources.open_source(path), sources.open_source(tmp_path / "set")
    assert zipped.fingerprint == unpacked.fingerprint
    assert zipped.identity([3, 1]) == unpacked.identity([3, 1])
    np.testing.assert_array_equal(sequence(zipped, 3), sequence(unpacked, 3))
    np.testing.assert_array_equal(zipped.batch(range(6)), unpacked.batch(range(6)))


def test_a_wrapping_folder_changes_nothing(tmp_path):
    # A zip of the folder `set` lists set/a.png where the directory lists a.png.
    inside = write_zip(tmp_path / "a.zip", contents())
    wrapped = write_zip(tmp_path / "b.zip", {f"set/{name}": data for name, data in contents().items()})
    a, b = sources.open_source(inside), sources.open_source(wrapped)
    assert a.fingerprint == b.fingerprint
    assert a.label_names == b.label_names


def test_fingerprint_follows_content_and_decoding(tmp_path):
    # Catches stale caches: another file under the same name, and the same files decoded differently.
    first = write_zip(tmp_path / "a.zip", contents())
    changed = contents() | {"Z.png": encoded(IMAGES[0])}
    second = write_zip(tmp_path / "b.zip", changed)
    prints = {
        sources.open_source(first).fingerprint,
        sources.open_source(second).fingerprint,
        sources.open_source(first, resize="box", resolution=8).fingerprint,
        sources.open_source(first, alpha="white").fingerprint,
    }
    assert len(prints) == 4
    assert sources.open_source(first).fingerprint in prints


def test_neither_names_nor_times_nor_places_make_another_set(tmp_path):
    # Catches fingerprints of listings: a copy, a checkout, `touch` and other names are the same images.
    directory = write(tmp_path / "set", contents())
    before = sources.open_source(directory).fingerprint
    os.utime(directory / "Z.png", ns=(1, 1))
    assert sources.open_source(directory).fingerprint == before
    numbered = {f"{i}.png": contents()[name] for i, name in enumerate(SORTED)}
    assert sources.open_source(write(tmp_path / "copy", numbered)).fingerprint == before
    swapped = numbered | {"0.png": numbered["1.png"], "1.png": numbered["0.png"]}
    assert sources.open_source(write(tmp_path / "swapped", swapped)).fingerprint != before


def test_equal_names_sizes_and_times_make_no_equal_sets(tmp_path):
    # As unzipped archives with the stamps of 1980 have them, of uncompressed images.
    found = set()
    for name, seed in (("a", 1), ("b", 2)):
        images = {f"{i}.bmp": encoded(image, ".bmp") for i, image in enumerate(pixels(4, seed=seed))}
        for path in write(tmp_path / name, images).iterdir():
            os.utime(path, ns=(10**18, 10**18))
        found.add(sources.open_source(tmp_path / name).fingerprint)
    assert len(found) == 2


def test_a_slice_is_a_directory_of_its_images(tmp_path):
    whole = sources.open_source(write(tmp_path / "set", contents()))
    part = Subset(whole, 1, 5)
    names = [part.called(i) for i in range(4)]
    alone = sources.open_source(
        write(tmp_path / "part", {f"{i}.png": contents()[name] for i, name in enumerate(names)})
    )
    assert part.fingerprint == alone.fingerprint
    np.testing.assert_array_equal(sequence(part, 7), sequence(alone, 7))
    np.testing.assert_array_equal(part.batch(range(4)), alone.batch(range(4)))


def test_a_file_that_changes_under_way_is_noticed(tmp_path):
    # Catches a key of the images that were there, on the state of those that are there now.
    source = sources.open_source(write(tmp_path, contents()))
    source.identity([2])
    (tmp_path / "Z.png").write_bytes(encoded(IMAGES[0]))
    with pytest.raises(SourceError, match=r"Z\.png in .* has changed"):
        source.batch([2])


def test_other_files_are_counted_by_kind(tmp_path):
    # Catches litter read as images, and files of which nobody is told.
    more = dict.fromkeys(["notes.txt", "a/b.TXT", "LICENSE", ".gitignore", "a.heic"], b"") | dict.fromkeys(
        [".DS_Store", "a/Thumbs.db", "__MACOSX/a.png", "a/._x.png"], b"not an image"
    )
    for path in (
        write(tmp_path / "set", contents() | more),
        write_zip(tmp_path / "set.zip", contents() | more),
        write_zip(
            tmp_path / "b.zip", {name.replace("/", "\\"): data for name, data in (contents() | more).items()}
        ),
    ):
        source = sources.open_source(path)
        assert source.names == SORTED
        assert source.ignored == 9
        counts = "4 of macOS or Windows, 2 .txt, 2 without suffix, 1 .heic"
        assert source.left_out == f"{path}: 9 files left out: {counts}"
        assert sources.open_source(f"{path}@1:3").left_out == source.left_out
    assert sources.open_source(write(tmp_path / "clean", contents())).left_out is None


def test_kinds_beyond_five_are_counted_together(tmp_path):
    write(tmp_path, contents() | {f"{i}.t{i}": b"" for i in range(9)})
    line = sources.open_source(tmp_path).left_out
    assert line.endswith("9 files left out: 1 .t0, 1 .t1, 1 .t2, 1 .t3, 1 .t4, 4 of other kinds")


@pytest.mark.parametrize("prefix", ["./", "../", "/", "c:\\", ".hidden/", "set\\", "a/./", ".", ""])
def test_members_are_taken_whatever_their_prefix(tmp_path, prefix):
    # Catches `./`, as bsdtar writes it, taken for a hidden name: all images or half of them were left out.
    images = {f"{prefix}{i}.png" if i < 4 else f"{i}.png": encoded(image) for i, image in enumerate(IMAGES)}
    source = sources.open_source(write_zip(tmp_path / "set.zip", images))
    assert len(source) == 6
    assert source.left_out is None
    got = {int(name[-5]): image for name, image in zip(source.names, source.batch(range(6)), strict=True)}
    for i, image in enumerate(IMAGES):
        np.testing.assert_array_equal(got[i].transpose(1, 2, 0), image)


def test_hidden_folders_and_files_are_taken(tmp_path):
    names = [".a.png", ".b/c.png", "d/.e/f.png"]
    images = {name: encoded(image) for name, image in zip(names, IMAGES, strict=False)}
    assert sources.open_source(write(tmp_path / "set", images)).names == names
    assert sources.open_source(write_zip(tmp_path / "set.zip", images)).names == names


@pytest.mark.parametrize("suffix", "png jpg jpeg jfif webp bmp tif tiff gif avif ppm pgm".split())
def test_every_suffix_is_taken_in_any_case(tmp_path, suffix):
    if suffix == "avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    kind = {"jpg": "JPEG", "jfif": "JPEG", "tif": "TIFF", "pgm": "PPM"}.get(suffix, suffix.upper())
    image = Image.fromarray(IMAGES[0]).convert("L" if suffix == "pgm" else "RGB")
    if suffix == "gif":
        image = image.quantize(64)
    file = io.BytesIO()
    image.save(file, kind)
    source = sources.open_source(
        write(tmp_path, {f"a.{suffix}": file.getvalue(), f"B.{suffix.upper()}": file.getvalue()})
    )
    assert len(source) == 2
    with Image.open(file) as opened:
        expected = np.asarray(opened.convert("RGB"))
    np.testing.assert_array_equal(source.batch([1])[0].transpose(1, 2, 0), expected)


def test_two_members_of_one_name_are_refused_by_it(tmp_path):
    path = write_zip(tmp_path / "set.zip", {"./b.png": encoded(IMAGES[0]), "b.png": encoded(IMAGES[1])})
    with pytest.raises(SourceError, match=r"set\.zip holds two files called b\.png"):
        sources.open_source(path)


def test_classes_are_folders_whatever_stands_before_them(tmp_path):
    names = ["./cat/1.png", "dog\\2.png", "./dog/3.png"]
    images = {name: encoded(image) for name, image in zip(names, IMAGES, strict=False)}
    source = sources.open_source(write_zip(tmp_path / "set.zip", images))
    assert source.label_names == ["cat", "dog"]
    assert source.labels.tolist() == [0, 1, 1]
    assert source.names == ["cat/1.png", "dog/2.png", "dog/3.png"]


def test_a_labels_file_is_found_behind_a_prefix(tmp_path):
    labels = json.dumps({"labels": [["a.png", 1], ["b.png", 0]]}).encode()
    images = {f"./{name}.png": encoded(image) for name, image in zip("ab", IMAGES, strict=False)}
    source = sources.open_source(write_zip(tmp_path / "set.zip", {"./dataset.json": labels, **images}))
    assert source.labels.tolist() == [1, 0]
    assert source.left_out is None


@pytest.mark.parametrize("made", ["pipe", "socket", "device"])
@pytest.mark.parametrize("name", ["2.png", "dataset.json"])
def test_what_is_no_regular_file_is_left_out_and_named(tmp_path, made, name):
    # A pipe was waited for without end, and /dev/zero read until memory was full.
    folder = write(tmp_path / "set", {f"{i}.png": encoded(image) for i, image in enumerate(IMAGES[:2])})
    if made == "socket":
        server = socket.socket(socket.AF_UNIX)
        here = os.getcwd()
        os.chdir(folder)  # a socket's path is limited to about a hundred bytes
        try:
            server.bind(name)
        finally:
            os.chdir(here)
            server.close()
    elif made == "pipe":
        os.mkfifo(folder / name)
    else:
        (folder / name).symlink_to("/dev/zero")
    source = sources.open_source(folder)
    assert len(source) == 2
    assert source.left_out == f"{folder}: 1 file left out: 1 {made} ({name})"
    assert source.labels is None


def test_a_pipe_that_takes_an_images_place_is_refused_at_once(tmp_path):
    source = sources.open_source(write(tmp_path, contents()))
    (tmp_path / "Z.png").unlink()
    os.mkfifo(tmp_path / "Z.png")
    with pytest.raises(SourceError, match=r"Z\.png in .* cannot be read: it is a pipe"):
        source.batch([2])


def test_links_that_a_zip_keeps_are_left_out_and_named(tmp_path):
    path = write_zip(tmp_path / "set.zip", contents())
    link = zipfile.ZipInfo("link.png")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, "Z.png")
    assert sources.open_source(path).left_out.endswith("1 file left out: 1 symbolic link (link.png)")


@pytest.mark.parametrize("where", ["directory", "zip"])
def test_a_labels_file_that_cannot_be_read_is_named(tmp_path, where):
    if where == "directory":
        write(tmp_path / "set", contents())
        (tmp_path / "set" / "dataset.json").symlink_to("nowhere.json")
        path = tmp_path / "set"
    else:
        path = write_zip(tmp_path / "set.zip", {"dataset.json": b"{}", **contents()})
        data = bytearray(path.read_bytes())
        data[data.index(b"{}")] ^= 1
        path.write_bytes(data)
    with pytest.raises(SourceError, match=r"dataset\.json.* cannot be read"):
        sources.open_source(path)


def test_a_pipe_given_as_a_source_is_refused_at_once(tmp_path):
    # As a shell's <(...) is one.
    os.mkfifo(tmp_path / "set.zip")
    with pytest.raises(SourceError, match=r"set\.zip cannot be opened: it is a pipe, and only regular files"):
        sources.open_source(tmp_path / "set.zip")


def test_different_sizes_are_named_with_the_way_out(tmp_path):
    # Catches the mistake of checking within a batch only: one image at a time must fail, too.
    path = write(tmp_path, {"a.png": encoded(IMAGES[0]), "b.png": encoded(pixels(1, 6, 9)[0])})
    source = sources.open_source(path)
    source.batch([0])
    with pytest.raises(
        SourceError, match=r"a\.png is 8 × 8, b\.png is 6 × 9 .*--resize crop-box --resolution 6 "
    ):
        source.batch([1])
    assert sources.open_source(path, resize="crop-box", resolution=6).batch([0, 1]).shape == (2, 3, 6, 6)


def test_a_truncated_file_is_named(tmp_path):
    data = contents() | {"a/x.PNG": encoded(IMAGES[0])[:60]}
    for source in (
        sources.open_source(write(tmp_path / "set", data)),
        sources.open_source(write_zip(tmp_path / "set.zip", data)),
    ):
        with pytest.raises(SourceError, match=r"a/x\.PNG in .*set.* cannot be read"):
            source.batch(range(6))


def test_a_vanished_file_is_named(tmp_path):
    source = sources.open_source(write(tmp_path, contents()))
    (tmp_path / "Z.png").unlink()
    with pytest.raises(SourceError, match=r"Z\.png in .*No such file"):
        source.batch([2])


def test_links_are_followed_but_not_in_circles(tmp_path):
    write(tmp_path / "elsewhere", {"c.png": encoded(IMAGES[0])})
    folder = write(tmp_path / "set", {"a.png": encoded(IMAGES[1])})
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "circle").symlink_to(folder)
    (folder / "dangling.png").symlink_to(tmp_path / "nowhere.png")
    source = sources.open_source(folder)
    assert source.names == ["a.png", "dangling.png", "linked/c.png"]
    with pytest.raises(SourceError, match=r"dangling\.png"):
        source.batch([1])


@pytest.mark.parametrize("name", ["a.png", "b.png", "b"])
def test_a_link_to_itself_is_named_as_a_dangling_one_is(tmp_path, name):
    # Catches a whole folder that "cannot be listed: Too many levels of symbolic links".
    folder = write(tmp_path / "set", {"a.png": encoded(IMAGES[1]), "sub/c.png": encoded(IMAGES[1])})
    (folder / "sub" / name).symlink_to(name)
    source = sources.open_source(folder)
    if name == "b":
        assert source.left_out.endswith("1 file left out: 1 without suffix")
        return
    place = source.names.index(f"sub/{name}")
    with pytest.raises(SourceError, match=rf"sub/{name} in .* cannot be read: Too many levels"):
        source.batch([place])
    found = audit(folder)
    assert list(found.unreadable) == [f"sub/{name}"]
    assert found.exit_code == 1


def test_folders_of_copies_and_litter_are_left_out(tmp_path):
    # Catches Jupyter's copies, thumbnails and deleted files among the images; other dot folders stay.
    folders = [".ipynb_checkpoints", "a/.git/x", "@eaDir", ".Trash", "a/.Trash-1000/files"]
    more = {f"{folder}/{i}.png": encoded(IMAGES[0]) for i, folder in enumerate(folders)}
    kept = {".hidden/0.png": encoded(IMAGES[0]), ".Trashy/0.png": encoded(IMAGES[1])}
    for path in (
        write(tmp_path / "set", contents() | more | kept),
        write_zip(tmp_path / "set.zip", contents() | more | kept),
    ):
        source = sources.open_source(path)
        assert sorted(source.names) == sorted([*NAMES, *kept])
        assert source.left_out == (
            f"{path}: 5 files left out: 1 in .Trash, 1 in .Trash-1000, 1 in .git, 1 in .ipynb_checkpoints, "
            "1 in @eaDir"
        )


def test_names_that_are_no_text_can_be_read_and_named(tmp_path):
    name = os.fsdecode(b"\xff\xfe.png")
    try:
        write(tmp_path, {name: encoded(IMAGES[0]), "a.png": encoded(IMAGES[1])})
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    source = sources.open_source(tmp_path)
    index = source.names.index(name)
    (tmp_path / name).write_bytes(b"broken, too")
    with pytest.raises(SourceError) as refusal:
        source.batch([index])
    str(refusal.value).encode()  # a surrogate in the message could not be printed


def test_notes_count_each_image_once(tmp_path):
    # Catches the first image's note counted again by the look at its size.
    opaque = np.dstack([IMAGES[0], np.full((8, 8), 255, np.uint8)])
    source = sources.open_source(write(tmp_path, {"a.png": encoded(opaque), "b.png": encoded(opaque)}))
    assert source.resolution == (8, 8)
    source.batch([0, 1])
    assert source.take_notes() == {"opaque alpha dropped": 2}
    assert not source.take_notes()


def test_labels_are_the_first_folders(tmp_path):
    source = sources.open_source(
        write(tmp_path, {name: encoded(IMAGES[0]) for name in ("dog/2.png", "cat/1.png", "dog/sub/3.png")})
    )
    assert source.label_names == ["cat", "dog"]
    assert source.labels.tolist() == [0, 1, 1]
    flat = sources.open_source(write(tmp_path / "cat", {"0.png": encoded(IMAGES[0])}))
    assert flat.labels is None


def test_a_zip_damaged_at_one_image_names_it(tmp_path):
    # A flipped bit decodes to another image without complaint, if nobody checks the sum.
    path = write_zip(tmp_path / "set.zip", {"a.bmp": encoded(IMAGES[0], ".bmp"), "b.png": encoded(IMAGES[1])})
    data = bytearray(path.read_bytes())
    place = data.index(encoded(IMAGES[0], ".bmp")) + 100
    data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises(SourceError, match=r"a\.bmp in .*its checksum in the zip is wrong"):
        sources.open_source(path).batch([0])


def test_an_incomplete_zip_is_named(tmp_path):
    path = write_zip(tmp_path / "set.zip", contents())
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(SourceError, match=r"set\.zip.* zip.*incomplete"):
        sources.open_source(path)


def test_an_encrypted_zip_is_named(tmp_path):
    path = write_zip(tmp_path / "set.zip", {"a.png": encoded(IMAGES[0])})
    data = bytearray(path.read_bytes())
    data[data.rindex(b"PK\x01\x02") + 8] |= 1  # the flag is all that a listing sees
    path.write_bytes(data)
    with pytest.raises(SourceError, match=r"set\.zip is encrypted"):
        sources.open_source(path)


def test_other_packing_is_refused_with_the_way_out(tmp_path):
    path = write_zip(tmp_path / "set.zip", {"a.png": encoded(IMAGES[0])}, zipfile.ZIP_LZMA)
    with pytest.raises(SourceError, match=r"packs a\.png by method 14.*unpack it"):
        sources.open_source(path)


def test_a_zip_replaced_meanwhile_is_noticed(tmp_path):
    path = write_zip(tmp_path / "set.zip", contents())
    source = sources.open_source(path)
    write_zip(path, contents() | {"new.png": encoded(IMAGES[0])})
    with pytest.raises(SourceError, match="has changed"):
        source.batch([0])


def test_one_zip_serves_many_threads(tmp_path, monkeypatch):
    # A shared file position would mix the files up.
    source = sources.open_source(write_zip(tmp_path / "set.zip", contents()))
    expected = [source.read_file(i) for i in range(6)]
    move = os.lseek

    def move_and_be_interrupted(*where):
        position = move(*where)
        time.sleep(0.001)
        return position

    def count_wrong(shift):
        wrong = 0
        for i in range(30):
            try:
                wrong += source.read_file((i + shift) % 6) != expected[(i + shift) % 6]
            except SourceError:
                wrong += 1
        return wrong

    monkeypatch.setattr(os, "lseek", move_and_be_interrupted)
    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(count_wrong, range(4))) == 0


def test_a_pickled_zip_opens_the_file_itself(tmp_path):
    source = sources.open_source(write_zip(tmp_path / "set.zip", contents()))
    expected = source.batch(range(6))
    data = pickle.dumps(source)
    del source
    np.testing.assert_array_equal(pickle.loads(data).batch(range(6)), expected)


@pytest.mark.parametrize(
    ("files", "fact"),
    [
        ({}, "is empty; a directory with png"),
        ({"a.txt": b"", "b.mp4": b""}, r"holds no png.*2 files left out: 1 \.mp4, 1 \.txt, such as a\.txt"),
        ({"README": b"", "network.safetensors": b""}, r"checkpoints, such as network\.safetensors"),
    ],
)
def test_a_directory_without_images_says_what_is_there(tmp_path, files, fact):
    with pytest.raises(SourceError, match=fact):
        sources.open_source(write(tmp_path, files))
