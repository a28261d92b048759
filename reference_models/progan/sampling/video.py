"""Videos of a generator: latent interpolation, and fixed latents over the growth of the network.

A frame is uint8 [H, W, 3]. Pillow writes GIF and WebP; ffmpeg writes MP4 and comes with the extra `video`.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, sqrt
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pgmetrics.errors import OptionError, PgmetricsError, check_number
from pgmetrics.runtime import seeding
from pgmetrics.runtime.files import written_atomically
from pgmetrics.runtime.seeding import Stream
from reference_models.progan.sampling import export, latents
from reference_models.progan.sampling.sampler import Sampler
from reference_models.progan.sampling.source import ProGANSource

FORMATS = (".mp4", ".gif", ".webp")
# Viewers show frames with shorter durations for a tenth of a second.
_GIF_FPS = 50
# Pillow needs all frames before it writes the first.
_PILLOW_BYTES = 2 * 2**30
_COMFORTABLE_SIDE = 256


@dataclass(frozen=True)
class Video:
    """A video whose frames are made lazily and can be read once.

    Attributes:
        side: height and width of an image in pixels.
        num_images: images per frame, in about a square grid.
        num_frames: number of frames.
        images: for each frame uint8 [num_images, 3, side, side].
    """

    side: int
    num_images: int
    num_frames: int
    images: Iterable[NDArray[np.uint8]]

    @property
    def columns(self) -> int:
        """Images per row of a frame."""
        return ceil(sqrt(self.num_images))

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of a frame in pixels."""
        return ceil(self.num_images / self.columns) * self.side, self.columns * self.side

    @property
    def comfortable_scale(self) -> int:
        """The enlargement that makes each side of a frame at least 256 pixels."""
        return ceil(_COMFORTABLE_SIDE / min(self.shape))


def wandering_latents(
    seed: int, image: int, num_frames: int, latent_size: int, sigma: float
) -> NDArray[np.float32]:
    """Return latents along a smooth closed path: the last frame is as close to the first as any two
    neighbors.

    They are independent N(0, 1) for each frame, filtered over time by a periodic Gaussian and divided by
    their root mean square.

    Args:
        seed: seed of the latents.
        image: index of the image in a frame; each has its own path.
        num_frames: length of the path.
        latent_size: length of a latent.
        sigma: standard deviation of the Gaussian in frames; 0 gives independent latents.

    Returns:
        float32 [num_frames, latent_size].

    Source: `generate_interpolation_video` in util_scripts.py of Karras et al. 2018, where the root mean
    square is over all images of a frame together.
    """
    from scipy.ndimage import gaussian_filter

    # The second number distinguishes them from those of `latents.latents`.
    random = seeding.generator(seed, Stream.LATENTS, image, num_frames)
    path = random.standard_normal((num_frames, latent_size))
    path = gaussian_filter(path, (sigma, 0), mode="wrap")
    scaled: NDArray[np.float32] = (path / np.sqrt(np.mean(path**2))).astype(np.float32)
    return scaled


def interpolation(
    sampler: Sampler,
    *,
    seed: int,
    num_images: int,
    num_frames: int,
    sigma: float,
    label: str | None = None,
) -> Video:
    """Make a video of latent interpolation, which repeats without a jump.

    Args:
        sampler: makes the images.
        seed: seed of latents and classes.
        num_images: in a frame, each with latents of its own and, in a conditional network, with
            one class for the whole video.
        num_frames: number of frames.
        sigma: how long the latents keep their direction, in frames.
        label: the class of all images; None draws classes with the frequencies of training.

    Raises:
        OptionError: the network has no such class, or the latents would hardly move.
    """
    check_number("sigma", sigma, 0, 10**6)
    if sigma > num_frames / 4:
        raise OptionError(
            f"latents smoothed over {sigma:g} frames hardly move within {num_frames}; smooth over a quarter "
            "of the video at most"
        )
    checkpoint = sampler.checkpoint
    size = checkpoint.config.latent_size
    only = None if label is None else latents.class_index(checkpoint, label, sampler.name)
    classes = latents.class_rows(checkpoint, seed, range(num_images), only)
    paths = [wandering_latents(seed, image, num_frames, size, sigma) for image in range(num_images)]

    def images() -> Iterable[NDArray[np.uint8]]:
        at_once = max(sampler.batch // num_images, 1)
        for start in range(0, num_frames, at_once):
            z = np.stack([path[start : start + at_once] for path in paths], axis=1)
            y = None if classes is None else np.tile(classes, (len(z), 1))
            made = sampler.images(z.reshape(-1, size), y)
            yield from made.reshape(len(z), num_images, *made.shape[1:])

    return Video(checkpoint.resolution, num_images, num_frames, images())


def growth(sources: Sequence[ProGANSource], num_images: int, frames_each: int) -> Video:
    """Make a video of the same latents in successive checkpoints, enlarged to the largest size.

    Args:
        sources: the checkpoints, in the order of training.
        num_images: in a frame: the first of each source.
        frames_each: for how many frames a checkpoint is shown.

    Raises:
        OptionError: the checkpoints' latents have different lengths.
    """
    stages = export.same_latents(sources, num_images)
    side = max(source.resolution[0] for source in sources)
    images = (pixels for pixels in stages for _ in range(frames_each))
    return Video(side, num_images, len(sources) * frames_each, images)


def save_video(path: Path, video: Video, fps: int, scale: int = 1) -> None:
    """Write an MP4, or an endless GIF or WebP, atomically.

    Args:
        path: path of the file, whose suffix chooses the format.
        video: the frames.
        fps: frames per second.
        scale: enlargement of each pixel in both directions.

    Raises:
        OptionError: the suffix is unknown, or the frames are too many for GIF or WebP, or too fast for GIF;
            raised before the first frame is made.
        PgmetricsError: ffmpeg is missing, or the file cannot be written.
    """
    suffix = path.suffix.lower()
    height, width = (side * scale for side in video.shape)
    _check(path, suffix, fps, video.num_frames * height * width * 3)
    program = _ffmpeg() if suffix == ".mp4" else ""
    grids = (export.image_grid(pixels, video.columns) for pixels in video.images)
    frames = (grid.repeat(scale, axis=0).repeat(scale, axis=1) for grid in grids)
    with written_atomically(path) as aside:
        if suffix == ".mp4":
            _write_mp4(program, aside, frames, (height, width), fps, path)
        else:
            _write_by_pillow(aside, frames, fps, is_gif=suffix == ".gif")


def _check(path: Path, suffix: str, fps: int, num_bytes: int) -> None:
    if suffix not in FORMATS:
        raise OptionError(f"{path} is not a name of a video; it must end in {', '.join(FORMATS)}")
    if suffix == ".gif" and fps > _GIF_FPS:
        raise OptionError(f"GIF shows {_GIF_FPS} frames a second at most, not {fps}; WebP and MP4 show more")
    if suffix != ".mp4" and num_bytes > _PILLOW_BYTES:
        raise OptionError(
            f"{path} would have {num_bytes / 2**30:.1f} GiB of frames, which {suffix} needs in memory all "
            f"at once; {_PILLOW_BYTES / 2**30:g} GiB are allowed. Fewer seconds, a smaller scale or an .mp4 "
            "need less"
        )


def _ffmpeg() -> str:
    try:
        import imageio_ffmpeg
    except ImportError:
        raise PgmetricsError(
            "MP4 needs ffmpeg, which comes with pip install 'pgmetrics[video]'; GIF and WebP need no more"
        ) from None
    try:
        program: str = imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:
        raise PgmetricsError(f"MP4 needs ffmpeg: {error}") from error
    return program


def _write_mp4(
    program: str,
    aside: Path,
    frames: Iterable[NDArray[np.uint8]],
    shape: tuple[int, int],
    fps: int,
    path: Path,
) -> None:
    height, width = shape
    command = [
        *(program, "-y", "-loglevel", "error"),
        *("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(fps), "-i", "-"),
        # H.264 with colors at half resolution plays everywhere. Without a declared color space, players
        # guess it from the size. Older versions of ffmpeg convert by one option and declare by the other;
        # newer ones do both with either.
        *("-vf", "scale=out_color_matrix=bt709:out_range=tv", "-pix_fmt", "yuv420p"),
        *("-colorspace", "bt709", "-c:v", "libx264", "-crf", "16"),
        *("-movflags", "+faststart", "-f", "mp4", str(aside)),
    ]
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=said)
        assert process.stdin is not None
        try:
            # The program ended early and reports the reason itself.
            with suppress(BrokenPipeError), process.stdin as pipe:
                for frame in frames:
                    pipe.write(np.ascontiguousarray(frame).data)
        except BaseException:
            process.kill()
            raise
        finally:
            code = process.wait()
        if code:
            said.seek(0)
            lines = said.read().decode(errors="replace").split("\n")
            reason = next((line for line in reversed(lines) if line.strip()), f"it ended with {code}")
            raise PgmetricsError(f"ffmpeg could not write {path}: {reason.strip()}")


def _write_by_pillow(aside: Path, frames: Iterable[NDArray[np.uint8]], fps: int, is_gif: bool) -> None:
    from PIL import Image

    held = [Image.fromarray(frame) for frame in frames]
    # A GIF counts hundredths of a second; rounding the moments, not the durations, keeps the speed.
    unit = 10 if is_gif else 1
    moments = [round(k * 1000 / unit / fps) * unit for k in range(len(held) + 1)]
    held[0].save(
        aside,
        format="gif" if is_gif else "webp",
        save_all=True,
        append_images=held[1:],
        duration=[stop - start for start, stop in pairwise(moments)],
        loop=0,
        **({} if is_gif else {"quality": 90}),
    )
