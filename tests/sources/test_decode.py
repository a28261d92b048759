"""Each rule by which a file becomes an image, or a line that names it."""

import io
import warnings
import zlib
from collections import Counter

import numpy as np
import pytest
from PIL import Image, features

from pgmetrics.errors import OptionError, SourceError
from pgmetrics.sources import decode as decode_module
from pgmetrics.sources.decode import Decoding, decode, facts_of, open_image, quiet_pillow
from tests.helpers.image_files import encoded, pixels, png_of_16_bits

RGB = pixels(1, 6, 5)[0]


def read(data, notes=None, **rules):
    return decode(data, "a.png", Decoding(**rules), Counter() if notes is None else notes).transpose(1, 2, 0)


def rgba(alpha):
    return Image.fromarray(np.dstack([RGB, np.broadcast_to(np.uint8(alpha), RGB.shape[:2])]))


def orientation(value):
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".ppm"])
def test_rgb_stays_as_it_is(suffix):
    np.testing.assert_array_equal(read(encoded(RGB, suffix)), RGB)


@pytest.mark.parametrize("value", range(2, 9))
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
def test_exif_rotation_is_ignored_and_counted(suffix, value):
    # Catches exif_transpose, and TIFF files, which Pillow turns while loading them.
    options = {"lossless": True} if suffix == ".webp" else {}
    notes = Counter()
    turned = read(encoded(RGB, suffix, exif=orientation(value), **options), notes)
    np.testing.assert_array_equal(turned, read(encoded(RGB, suffix, **options)))
    assert notes == {"EXIF rotation ignored": 1}


def test_upright_exif_is_not_counted():
    notes = Counter()
    read(encoded(RGB, ".jpg", exif=orientation(1)), notes)
    assert not notes


def test_opaque_alpha_is_dropped_and_counted():
    notes = Counter()
    np.testing.assert_array_equal(read(encoded(rgba(255)), notes), RGB)
    assert notes == {"opaque alpha dropped": 1}


def test_real_transparency_is_refused_with_the_way_out():
    alpha = np.full(RGB.shape[:2], 255)
    alpha[-1, -1] = 254  # a single pixel, nearly opaque
    with pytest.raises(SourceError, match=r"a\.png has transparent pixels.*--alpha white"):
        read(encoded(rgba(alpha)))


@pytest.mark.parametrize(("ground", "value"), [("white", 255), ("black", 0)])
def test_transparency_is_put_on_its_ground(ground, value):
    # Half transparent: catches grounds swapped, and alpha that is only cut off.
    image = read(encoded(rgba(128)), alpha=ground)
    expected = (RGB * 128.0 + value * 127.0) / 255
    assert abs(image - expected).max() <= 1


def test_transparency_can_be_dropped():
    np.testing.assert_array_equal(read(encoded(rgba(0)), alpha="drop"), RGB)


def palette(transparency=None):
    image = Image.new("P", (5, 6))
    image.putdata([i % 4 for i in range(30)])
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120])
    return encoded(image, **({} if transparency is None else {"transparency": transparency}))


def test_palette_becomes_its_colors():
    # Catches np.asarray of the palette's numbers, taken for grey.
    assert read(palette())[0, :4].tolist() == [[10, 20, 30], [40, 50, 60], [70, 80, 90], [100, 110, 120]]


@pytest.mark.parametrize("transparency", [2, bytes([255, 255, 0, 255])])
def test_transparent_palette_follows_the_rule(transparency):
    # Pillow's conversion to RGB would drop it without a word, or with a warning of its own.
    with pytest.raises(SourceError, match="transparent"):
        read(palette(transparency))
    assert read(palette(transparency), alpha="white")[0, 2].tolist() == [255, 255, 255]
    assert read(palette(transparency), alpha="white")[0, 1].tolist() == [40, 50, 60]


def test_palette_with_opaque_bytes_is_taken():
    assert read(palette(bytes([255] * 4)))[0, 1].tolist() == [40, 50, 60]


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_one_transparent_color_is_transparency(mode):
    image = Image.fromarray(RGB).convert(mode)
    with pytest.raises(SourceError, match="transparent"):
        read(encoded(image, transparency=image.getpixel((0, 0))))


@pytest.mark.parametrize("mode", ["L", "1", "LA"])
def test_grey_becomes_rgb(mode):
    image = Image.fromarray(RGB).convert(mode)
    expected = np.asarray(image.convert("L"))
    np.testing.assert_array_equal(read(encoded(image)), np.dstack([expected] * 3))


def test_cmyk_becomes_rgb_as_pillow_converts_it():
    image = Image.fromarray(RGB).convert("CMYK")
    data = encoded(image, ".jpg", quality=100)
    with Image.open(io.BytesIO(data)) as opened:
        expected = np.asarray(opened.convert("RGB"))
    np.testing.assert_array_equal(read(data), expected)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bits_are_refused_and_scale_by_1_257(channels):
    # Pillow would take the upper byte of color images: 128 to 255 would become 0, not 0 and 1.
    samples = np.random.default_rng(0).integers(0, 65536, (6, 5, channels), np.uint16)
    samples[0, :, 0] = [0, 128, 129, 65535, 65406]
    if channels in (2, 4):
        samples[..., -1] = 65535
    data = png_of_16_bits(samples)
    with pytest.raises(SourceError, match=r"a\.png has 16 bits.*--bits 8"):
        read(data)
    notes = Counter()
    colors = samples[..., :1] if channels < 3 else samples[..., :3]
    expected = np.rint(colors / 257.0).astype(np.uint8)
    np.testing.assert_array_equal(read(data, notes, bits=8), np.broadcast_to(expected, (6, 5, 3)))
    assert notes["16-bit scaled to 8-bit"] == 1


def test_16_bit_transparency_follows_the_rule():
    samples = np.full((4, 4, 4), 40_000, np.uint16)
    with pytest.raises(SourceError, match="transparent"):
        read(png_of_16_bits(samples), bits=8)
    assert read(png_of_16_bits(samples), bits=8, alpha="drop")[0, 0].tolist() == [156] * 3


def test_16_bit_tiff_is_scaled():
    samples = np.linspace(0, 65535, 30).astype(np.uint16).reshape(6, 5)
    image = read(encoded(Image.fromarray(samples), ".tif"), bits=8)
    np.testing.assert_array_equal(image[..., 0], np.rint(samples / 257.0))


@pytest.mark.parametrize(("mode", "word"), [("F", "floating-point"), ("I", "32-bit")])
def test_wider_pixels_are_refused_even_with_bits(mode, word):
    with pytest.raises(SourceError, match=rf"a\.png has {word} pixels"):
        read(encoded(Image.new(mode, (4, 4)), ".tif"), bits=8)


@pytest.mark.parametrize("suffix", [".tif", ".webp", ".png", ".gif"])
def test_several_frames_are_refused(suffix):
    frames = [Image.fromarray(image) for image in pixels(3)]
    data = encoded(frames[0], suffix, save_all=True, append_images=frames[1:])
    with pytest.raises(SourceError, match=r"a\.png has several frames"):
        read(data)


def test_several_frames_of_avif_are_refused():
    if not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    test_several_frames_are_refused(".avif")


def test_a_telephones_jpeg_gives_its_first_picture_and_is_counted():
    # Refused before, though every other tool takes it; the second picture is another lens's, or a depth map.
    first, second = (Image.fromarray(image) for image in pixels(2, 16, 16))
    file = io.BytesIO()
    first.save(file, "MPO", save_all=True, append_images=[second])
    notes = Counter()
    np.testing.assert_array_equal(read(file.getvalue(), notes), read(encoded(first, ".jpg")))
    assert notes == {"first picture taken of a JPEG that holds several": 1}
    with open_image(file.getvalue()) as image:
        assert facts_of(image).format == "JPEG"


@pytest.mark.parametrize(("magic", "channels"), [(b"P5", 1), (b"P6", 3), (b"P2", 1), (b"P3", 3)])
@pytest.mark.parametrize("most", [65535, 1000])
def test_16_bit_netpbm_is_refused_and_scaled(magic, channels, most):
    # Pillow scales color to 8 bits by itself, without a word.
    samples = np.random.default_rng(0).integers(0, most + 1, (6, 5, channels)).astype(">u2")
    plain = magic in (b"P2", b"P3")
    body = " ".join(map(str, samples.ravel())).encode() if plain else samples.tobytes()
    data = magic + b"\n5 6\n%d\n" % most + body + b"\n"
    with pytest.raises(SourceError, match=r"a\.png has 16 bits.*--bits 8"):
        read(data)
    notes = Counter()
    expected = np.broadcast_to(samples.astype(float) * 255 / most, (6, 5, 3))
    # 65535 is 257 * 255, where both roundings are one; others are scaled to it first.
    off = abs(read(data, notes, bits=8) - expected).max()
    assert off <= (0.5 if most == 65535 else 0.51)
    assert notes == {"16-bit scaled to 8-bit": 1}


def test_a_missing_avif_decoder_is_named_with_the_way_out(monkeypatch):
    monkeypatch.setattr(decode_module, "_FORMATS", ("PNG",))
    monkeypatch.setattr(decode_module, "_avif", lambda: ())
    with pytest.raises(
        SourceError, match=r"a\.png cannot be read: it is an AVIF.*pip install 'pillow>=11\.3'"
    ):
        read(b"\0\0\0\x20ftypavif" + bytes(30))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp", ".tif", ".gif", ".ppm"])
def test_a_truncated_file_is_named(suffix):
    # Catches a half image filled with grey.
    data = encoded(pixels(1, 64, 64)[0], suffix)
    for length in (0, 10, len(data) // 2, len(data) * 9 // 10):
        with pytest.raises(SourceError, match=r"a\.png cannot be read"), quiet_pillow():
            read(data[:length])


def test_other_content_under_an_image_name_is_named():
    with pytest.raises(SourceError, match=r"a\.png cannot be read: it is not a PNG"):
        read(b"<html>404</html>" * 10)


def test_a_bomb_is_refused_in_one_line():
    header = bytearray(png_of_16_bits(np.zeros((1, 1, 1), np.uint16)))
    header[16:24] = (100_000).to_bytes(4, "big") * 2
    header[29:33] = zlib.crc32(bytes(header[12:29])).to_bytes(4, "big")
    with pytest.raises(SourceError, match=r"a\.png is too large.*10000000000 pixels") as refusal:
        read(bytes(header), bits=8)
    assert "\n" not in str(refusal.value)


def test_pillow_says_nothing_of_its_own():
    # Palettes with transparency in bytes, and large images, make Pillow warn.
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with quiet_pillow():
            read(palette(bytes([255] * 4)))
    assert not said


@pytest.mark.parametrize("resize", ["box", "lanczos", "bicubic", "crop-box", "crop-lanczos", "crop-bicubic"])
def test_resize_policies_are_pillows_filters(resize):
    photo = Image.fromarray(pixels(1, 20, 31)[0])
    filter_ = getattr(Image.Resampling, resize.removeprefix("crop-").upper())
    whole = photo.crop((5, 0, 25, 20)) if resize.startswith("crop-") else photo
    expected = np.asarray(whole.resize((8, 8), filter_))
    np.testing.assert_array_equal(read(encoded(photo), resize=resize, resolution=8), expected)


def test_box_is_the_mean_of_squares():
    # A truth without Pillow: catches a filter that is called box and is none.
    image = pixels(1, 16, 16)[0]
    # Within a level: Pillow rounds halves up, once for the rows and once for the columns.
    expected = image.reshape(8, 2, 8, 2, 3).mean((1, 3))
    assert abs(read(encoded(image), resize="box", resolution=8) - expected).max() <= 1


def test_transparent_images_are_resized_on_their_ground():
    # Resizing colors and alpha apart would let hidden colors bleed in.
    image = rgba(np.where(np.arange(5) < 3, 255, 0)[None])
    whitened = Image.fromarray(read(encoded(image), alpha="white"))
    np.testing.assert_array_equal(
        read(encoded(image), alpha="white", resize="box", resolution=3),
        np.asarray(whitened.resize((3, 3), Image.Resampling.BOX)),
    )


@pytest.mark.parametrize(
    ("rules", "fact"),
    [
        ({"resize": "box"}, "needs a resolution"),
        ({"resolution": 8}, "needs a resize"),
        ({"resize": "nearest", "resolution": 8}, "choose from box"),
        ({"alpha": "pink"}, "white, black or drop"),
        ({"bits": 16}, "bits is 8"),
        ({"resize": "box", "resolution": 0}, "not 0"),
    ],
)
def test_rules_that_mean_nothing_are_refused(rules, fact):
    with pytest.raises(OptionError, match=fact):
        Decoding(**rules)
