"""Scoring a whole run: what is skipped, resumed and followed, and what a kill at any moment leaves."""

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import pgmetrics
from pgmetrics.errors import OptionError, SampleError, SourceError
from pgmetrics.growth import read_scores
from pgmetrics.metrics.swd import SlicedWasserstein
from pgmetrics.results import run_scores
from pgmetrics.runtime import heartbeat
from pgmetrics.sources.arrays import ArraySource
from reference_models.progan.model.checkpoint import checkpoints
from reference_models.progan.model.config import ProGANConfig
from reference_models.progan.sampling import sampler
from reference_models.progan.training.train import train
from tests.helpers.growing_run import CONFIG, LABELS, write_checkpoint
from tests.helpers.growth_scores import FAST, REAL, N, items, real_pixels, score, store, values
from tests.helpers.image_files import encoded, write
from tests.helpers.tables import SWD

ROOT = Path(__file__).parents[2]


def test_a_checkpoint_that_cannot_be_read_is_named_and_tried_again_next_time(run):
    paths = checkpoints(run)
    whole = {path: path.read_bytes() for path in paths}
    short, empty, odd = paths[1], paths[4], paths[6]
    short.write_bytes(whole[short][:-100])
    empty.write_bytes(b"")
    # Whole by its header, and other weights than were written.
    data = bytearray(whole[odd])
    data[-4000:] = np.full(1000, np.nan, np.float32).tobytes()
    odd.write_bytes(bytes(data))
    _, skipped = score(run)
    assert sorted(path.name for path, _ in skipped) == sorted(path.name for path in (short, empty, odd))
    reasons = {path.name: reason for path, reason in skipped}
    assert "cut short" in reasons[short.name]
    assert "holds no checkpoint" in reasons[empty.name]
    assert "SHA-256" in reasons[odd.name]
    scored = [label for kind, label in items(run) if kind == "checkpoint"]
    assert scored == [label for i, label in enumerate(LABELS) if i not in (1, 4, 6)]
    for path, content in whole.items():
        path.write_bytes(content)
    found, skipped = score(run)
    assert not skipped
    assert [label for _, label in items(run)][-3:] == [LABELS[1], LABELS[4], LABELS[6]]
    assert list(dict.fromkeys(row["run"] for row in found.rows)) == ["reals-32x32", *LABELS]


def with_header(content, **fields):
    """A checkpoint whose header somebody edited; fields of its configuration by their names, too."""
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    facts = json.loads(header["__metadata__"]["progan"])
    for name, value in fields.items():
        (facts if name in facts else facts["config"])[name] = value
    header["__metadata__"]["progan"] = json.dumps(facts)
    return of_header(json.dumps(header).encode(), content[8 + length :])


def of_header(header, data=b""):
    return struct.pack("<Q", len(header)) + header + data


def of_metadata(text):
    tensor = '{"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}'
    header = f'{{"__metadata__": {{"progan": {json.dumps(text)}}}, "a": {tensor}}}'
    return of_header(header.encode(), b"\0" * 4)


DEEP = "[" * 100_000 + "]" * 100_000


DAMAGE = {
    "empty": lambda whole: b"",
    "cut": lambda whole: whole[:-1],
    "half": lambda whole: whole[: len(whole) // 2],
    "deep header": lambda whole: of_header(b'{"a": ' + DEEP.encode() + b"}"),
    "deep metadata": lambda whole: of_metadata(DEEP),
    "list for a header": lambda whole: of_metadata("[]"),
    "number for a header": lambda whole: of_metadata("1"),
    "infinite offset": lambda whole: of_header(
        b'{"__metadata__":{"progan":"{}"},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,1e999]}}'
    ),
    "infinite count": lambda whole: with_header(whole, images_shown=float("inf")),
    "negative count": lambda whole: with_header(whole, images_shown=-5),
    "huge count": lambda whole: with_header(whole, images_shown=10**30),
    "float for an integer": lambda whole: with_header(whole, latent_size=8.5, images_shown=99),
    "absurd size": lambda whole: with_header(whole, latent_size=10**9, images_shown=99),
    "absurd resolution": lambda whole: with_header(whole, resolution=2**20, images_shown=99),
    "list for a number": lambda whole: with_header(whole, latent_size=[8], images_shown=99),
    "no configuration": lambda whole: with_header(whole, config=None, images_shown=99),
    "NaN weights": lambda whole: (
        with_header(whole, images_shown=99)[:-4000] + np.full(1000, np.nan, np.float32).tobytes()
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("how", [*DAMAGE, "directory", "pipe", "link to nowhere", "circle of links"])
def test_one_bad_checkpoint_is_named_and_the_others_are_scored(run, how):
    # Most of these ended the whole run, with a traceback of whatever a parser raised.
    whole = checkpoints(run)[0].read_bytes()
    for path in checkpoints(run)[2:]:
        path.unlink()
    bad = run / "checkpoints" / "zbad.safetensors"
    match how:
        case "directory":
            bad.mkdir()
        case "pipe":
            os.mkfifo(bad)
        case "link to nowhere":
            bad.symlink_to("nowhere")
        case "circle of links":
            bad.symlink_to(bad.name)
        case _:
            bad.write_bytes(DAMAGE[how](whole))
    found, skipped = score(run, metrics=["ms-ssim"], num_images=8)
    assert [path.name for path, _ in skipped] == [bad.name]
    assert "\n" not in skipped[0][1]
    assert [label for kind, label in items(run) if kind == "checkpoint"] == LABELS[:2]
    assert {row["run"] for row in found.rows} == {"reals-32x32", *LABELS[:2]}


@pytest.mark.slow
@pytest.mark.parametrize("how", [{"jobs": 2}, {"watch": True, "poll_seconds": 0.01}])
def test_bad_checkpoints_end_neither_jobs_nor_a_watch(run, tmp_path, how):
    whole = checkpoints(run)[0].read_bytes()
    for path in checkpoints(run)[2:]:
        path.unlink()
    names = ("deep header", "list for a header", "infinite count", "NaN weights")
    for name in names:
        (run / "checkpoints" / f"{name}.safetensors").write_bytes(DAMAGE[name](whole))
    np.save(tmp_path / "reals.npy", real_pixels().transpose(0, 2, 3, 1))
    _, skipped = score(run, str(tmp_path / "reals.npy"), metrics=["ms-ssim"], num_images=8, **how)
    assert {path.stem for path, _ in skipped} == set(names)
    assert [label for kind, label in items(run) if kind == "checkpoint"] == LABELS[:2]


def test_a_checkpoint_of_another_run_is_named_and_the_others_are_scored(run):
    paths = checkpoints(run)
    stray = CONFIG.with_options(["resolution=64"])
    write_checkpoint(run, 900, 32, config=stray)
    for path in paths[1:]:
        path.unlink()
    _, skipped = score(run, metrics=["ms-ssim"], num_images=8)
    ((_, reason),) = skipped
    assert reason == (
        "it grows to 64 × 64, and others of the run to 32 × 32; if it is one of their stages, "
        "--final-resolution 32 says so"
    )
    assert [label for kind, label in items(run) if kind == "checkpoint"] == LABELS[:1]
    # The fix works, and a checkpoint that stands beyond the run's end is told none.
    write_checkpoint(run, 990, 64, config=stray)
    _, skipped = score(run, metrics=["ms-ssim"], num_images=8, final_resolution=32)
    ((_, reason),) = skipped
    assert reason == "it grows to 64 × 64, and others of the run to 32 × 32"
    assert [label for kind, label in items(run) if kind == "checkpoint"] == [LABELS[0], "0000000900-32x32"]


@pytest.mark.slow
@pytest.mark.parametrize("error", [MemoryError, RecursionError, KeyError, OverflowError, struct.error])
def test_what_a_plug_in_raises_for_one_file_ends_nothing(run, monkeypatch, error):

    original = sampler.Sampler.images

    def images(self, *arguments):
        if self.checkpoint.images_shown == 200:
            raise error("far down")
        return original(self, *arguments)

    monkeypatch.setattr(sampler.Sampler, "images", images)
    _, skipped = score(run, metrics=["ms-ssim"], num_images=8)
    assert [path.name for path, _ in skipped] == ["images0000000200-res0008.safetensors"]
    assert f"{error.__name__ if error is not struct.error else 'error'}: " in skipped[0][1]
    assert len([kind for kind, _ in items(run) if kind == "checkpoint"]) == 7


def test_a_mistake_of_the_program_keeps_its_traceback(run, monkeypatch):
    # A guard that took everything for damage would hide our own bugs as skipped files.
    from pgmetrics.metrics.ms_ssim import MultiScaleSSIM

    def broken(*_, **__):
        raise TypeError("a bug")

    monkeypatch.setattr(MultiScaleSSIM, "compute", broken)
    with pytest.raises(TypeError, match="a bug"):
        score(run, metrics=["ms-ssim"], num_images=8)


def test_a_run_of_which_nothing_can_be_read_is_no_table(run):
    (run / "untrained.safetensors").unlink()
    for path in checkpoints(run):
        path.write_bytes(path.read_bytes()[:-1])
    found, skipped = score(run)
    assert not found.rows
    assert len(skipped) == 8
    assert not (run / "scores.jsonl").exists()


def test_what_concerns_all_checkpoints_is_refused(run, tmp_path):
    (run / "empty").mkdir()
    small = ArraySource(real_pixels(side=16))
    with pytest.raises(
        SourceError, match=r"16 × 16, and the run grows to 32 × 32; --resize box --resolution 32"
    ):
        score(run, small)
    with pytest.raises(SampleError, match="holds 40 images; num_images asks for 50"):
        score(run, num_images=50)
    with pytest.raises(OptionError, match=r"at-final or at-stage, not native"):
        score(run, protocols=["native"])
    with pytest.raises(SourceError, match="holds no checkpoints"):
        score(run / "empty")
    with pytest.raises(SourceError, match="is not the directory of a training run"):
        score(tmp_path / "nowhere")
    oblong = ArraySource(np.zeros((40, 3, 32, 64), np.uint8))
    with pytest.raises(SourceError, match="stages are square"):
        score(run, oblong)
    np.savez(tmp_path / "r.npz", mu=np.zeros(4), sigma=np.eye(4))
    with pytest.raises(OptionError, match=r"r\.npz holds statistics; .*give the images"):
        score(run, tmp_path / "r.npz")
    assert sorted(p.name for p in run.iterdir()) == [
        "checkpoints", "empty", "finished.json", "untrained.safetensors",
    ]  # fmt: skip


def test_what_is_noted_of_the_reals_is_told_once(run, caplog):
    # Wrong: the same sentence for every checkpoint, 17 lines for a run of 8.
    noise = np.random.default_rng(0).integers(0, 256, real_pixels().shape, dtype=np.uint8)
    score(run, ArraySource(noise), metrics=["ms-ssim"])
    told = [line for line in caplog.messages if "pairs of real images" in line]
    assert len(told) == 1
    note = told[0].partition(", ")[2]
    assert store(run).count(note.encode()) > 1


def test_files_left_out_of_the_reals_are_told_once(run, tmp_path, caplog):
    contents = {f"{i}.png": encoded(image) for i, image in enumerate(real_pixels().transpose(0, 2, 3, 1))}
    real = write(tmp_path / "real", contents | {"notes.txt": b""})
    score(run, real, protocols=["at-final", "at-stage"], metrics=["ms-ssim"])
    assert caplog.text.count("1 file left out: 1 .txt") == 1


def test_a_finished_run_is_left_as_it_is_and_nothing_is_read(run, monkeypatch):
    found, _ = score(run)
    before = store(run)
    assert sorted(p.name for p in run.iterdir()) == [
        "checkpoints", "finished.json", "scores.jsonl", "untrained.safetensors",
    ]  # fmt: skip
    monkeypatch.setattr("pgmetrics.evaluation.api.evaluate", None)
    assert score(run)[0] == found == read_scores(run)
    assert store(run) == before


@pytest.mark.slow
def test_changed_settings_are_a_new_series_and_the_old_one_stays(run):
    first, _ = score(run)
    old = store(run)
    for change in (
        {"seed": 1},
        {"num_images": 12},
        {"protocols": ["at-stage"]},
        {"metrics": [SWD]},
        {"metrics": [SlicedWasserstein(patches_per_image=15, directions=8, repeats=2), "ms-ssim"]},
        {"mirror": True},
        {"error": "images"},
        {"real": ArraySource(real_pixels()[::-1], name="reals")},
    ):
        (run / "scores.jsonl").write_bytes(old)
        other, _ = score(run, **change)
        assert store(run).startswith(old)
        assert other.provenance["series"] != first.provenance["series"], change
        assert read_scores(run) == other
        assert read_scores(run, first.provenance["series"]) == first
    # What decides no number is no setting.
    (run / "scores.jsonl").write_bytes(old)
    score(run, jobs=1, workers=1, max_memory=2**31, cache="off")
    assert store(run) == old


def test_a_checkpoint_that_was_trained_anew_is_scored_anew(run):
    score(run)
    before = store(run)
    path = checkpoints(run)[3]
    assert write_checkpoint(run, 400, 16, 0.25, weights=450) == path
    found, _ = score(run)
    assert store(run).startswith(before)
    assert [label for _, label in items(run)][len(LABELS) + 2 :] == [LABELS[3]]
    alone = pgmetrics.evaluate(REAL, f"progan:{path},at=final", FAST, num_images=N)
    assert values(found, run=LABELS[3]) == values(alone, subject="fake")


@pytest.mark.slow
def test_lines_hold_no_times_and_no_places(run, tmp_path):
    np.save(tmp_path / "few.npy", real_pixels(20))
    score(run, str(tmp_path / "few.npy"))  # too few for the floor, which a note says
    first = store(run)
    lines = [json.loads(line) for line in first.decode().splitlines()]
    assert lines[0]["settings"]["real_spec"] == str(tmp_path / "few.npy")
    assert str(tmp_path) not in json.dumps(lines[1:])
    assert "floor is left out" in lines[1]["provenance"]["notes"][0]
    assert not {"started", "seconds", "threads"} & set(str(lines).replace("'", " ").split())
    moved = shutil.copytree(run, tmp_path / "moved")
    (moved / "scores.jsonl").unlink()
    score(moved, str(tmp_path / "few.npy"))
    assert store(moved) == first


def test_somebody_else_who_scores_the_run_is_waited_for(run):
    (run / ".growth").mkdir()
    holder = subprocess.Popen(
        [
            sys.executable, "-c",
            "import filelock, sys\n"
            "lock = filelock.FileLock(sys.argv[1])\n"
            "lock.acquire()\n"
            "print('held', flush=True)\n"
            "sys.stdin.read()",
            str(run / ".growth" / "lock"),
        ],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    with holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(OptionError, match="is being scored by another process"):
            score(run)
        holder.kill()  # a lock must not outlive its holder
    found, _ = score(run)
    assert found.rows


_ZYGOTE = """
import os, signal, sys, time
sys.path.insert(0, sys.argv[1])
import torch
torch.set_num_threads(1)
import pgmetrics.evaluation.api
from pgmetrics.results import run_scores
from pgmetrics.growth import score_run
from pgmetrics.metrics.swd import SlicedWasserstein
from tests.helpers.toy_network import ToyNetwork

def score(run):
    swd = SlicedWasserstein(patches_per_image=16, directions=8, repeats=2)
    score_run(run, sys.argv[2], [swd, "ms-ssim", "fid"], protocols=["at-final", "at-stage"], num_images=16,
              untrained=True, workers=0, device="cpu", networks={"inception": ToyNetwork()})

# Forked before any thread: a child costs nothing to start, and is killed as any process is.
for line in sys.stdin:
    run, after, tear = line.split()
    begun = time.monotonic()
    child = os.fork()
    if not child:
        os.setpgid(0, 0)
        if int(tear) >= 0:
            written = []
            def dying(self, entry, append=run_scores.Journal.append):
                written.append(entry)
                if len(written) == 3:
                    self._file = self._file or self._open()
                    self._file.write(entry.to_line()[: int(tear)])
                    os.kill(os.getpid(), signal.SIGKILL)
                append(self, entry)
            run_scores.Journal.append = dying
        try:
            score(run)
        except BaseException:
            import traceback; traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if float(after) >= 0:
        time.sleep(float(after))
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), time.monotonic() - begun, flush=True)
"""


@pytest.fixture
def killing(tmp_path):
    """Scores a run in another process, and kills it after so many seconds: exit code and seconds."""
    np.save(tmp_path / "reals.npy", real_pixels())
    arguments = [sys.executable, "-c", _ZYGOTE, str(ROOT), str(tmp_path / "reals.npy")]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as zygote:

        def ask(run, after=-1.0, tear=-1):
            zygote.stdin.write(f"{run} {after} {tear}\n")
            zygote.stdin.flush()
            code, seconds = zygote.stdout.readline().split()
            return int(code), float(seconds)

        yield ask
        zygote.stdin.close()
        zygote.kill()


@pytest.mark.slow
def test_killed_at_many_moments_the_store_becomes_that_of_an_undisturbed_run(finished, tmp_path, killing):
    whole = Path(shutil.copytree(finished, tmp_path / "whole"))
    code, seconds = killing(whole)
    assert code == 0
    expected = store(whole)
    assert len(expected.splitlines()) == 1 + 4 + 1 + 8
    cut_short = set()
    moments = 12
    for k in range(moments):
        run = Path(shutil.copytree(finished, tmp_path / f"run{k}"))
        # Twice in a row: at one of the moments spread over the run, and again on the way to its end.
        for share in ((k + 0.5) / moments, 0.3 * (k % 3)):
            killing(run, after=share * seconds)
        left = store(run) if (run / "scores.jsonl").exists() else b""
        assert expected.startswith(left[: left.rfind(b"\n") + 1])
        cut_short.add(left.count(b"\n"))
        assert killing(run)[0] == 0
        assert store(run) == expected, f"after a kill at {share:.2f} of the run"
        assert not (run / ".growth").exists()
        shutil.rmtree(run)
    assert len(cut_short) > 4  # it was indeed killed here and there


@pytest.mark.slow
@pytest.mark.parametrize("tear", [0, 1, 200, 10**6])
def test_killed_within_a_line_the_torn_line_is_written_anew(finished, tmp_path, killing, tear):
    whole, torn = (Path(shutil.copytree(finished, tmp_path / name)) for name in ("whole", "torn"))
    assert killing(whole)[0] == 0
    assert killing(torn, tear=tear)[0] == -signal.SIGKILL
    assert store(torn) != store(whole)
    assert killing(torn)[0] == 0
    if tear == 10**6:
        # A whole line, but for its being acknowledged: it counts.
        assert store(torn).count(b"\n") == store(whole).count(b"\n")
    assert store(torn) == store(whole)


@pytest.mark.slow
def test_watching_a_training_scores_each_checkpoint_once_and_ends_with_it(tmp_path):
    config = ProGANConfig(
        resolution=16, latent_size=8, fmap_base=32, fmap_max=8, minibatch={4: 4}, stabilise_images=32,
        fade_images=32, total_images=192, minibatch_repeats=2,
    )  # fmt: skip
    pixels = real_pixels(40, 16)
    run = tmp_path / "not" / "there" / "yet"
    # Slow enough that checkpoints are scored while it trains.
    trainer = threading.Thread(
        target=train, args=(ArraySource(pixels), run, config),
        kwargs={"snapshot_images": 24, "report": lambda progress: time.sleep(0.15)},
    )  # fmt: skip
    waiting = threading.Timer(0.5, trainer.start)  # a watch may begin before the run does
    waiting.start()
    counts = []
    found, skipped = score(
        run, ArraySource(pixels), watch=True, poll_seconds=0.02, untrained=True,
        progress=lambda what, done, total: counts.append(total),
    )  # fmt: skip
    trainer.join()
    assert not skipped
    written = checkpoints(run)
    assert len(written) >= 8
    scored = [entry.item["file"] for entry in run_scores.read(run) if entry.kind == "checkpoint"]
    assert scored == [f"checkpoints/{path.name}" for path in written]  # each once, in order
    assert max(counts) < len(written)  # not all at the end
    assert "untrained" in {row["run"] for row in found.rows}
    # And as if they had been scored together.
    followed = store(run)
    (run / "scores.jsonl").unlink()
    score(run, ArraySource(pixels), untrained=True)
    assert store(run) == followed
    assert sorted(p.name for p in run.iterdir() if p.name.startswith(".")) == []


def test_watching_passes_over_a_checkpoint_that_gives_no_images_and_still_ends(run):
    path = checkpoints(run)[6]
    data = bytearray(path.read_bytes())
    data[-4000:] = np.full(1000, np.nan, np.float32).tobytes()
    path.write_bytes(bytes(data))
    tried = []
    _, skipped = score(
        run, watch=True, poll_seconds=0.01, metrics=["ms-ssim"],
        progress=lambda what, done, total: tried.append(what) if what.startswith(LABELS[6]) else None,
    )  # fmt: skip
    assert [each.name for each, _ in skipped] == [path.name]
    assert len(set(tried)) == len(tried)  # once
    assert len([kind for kind, _ in items(run) if kind == "checkpoint"]) == 7


# As the command runs, but for a heart that beats faster.
_TRAIN = """
import sys
from pgmetrics.runtime import heartbeat
from reference_models.progan.cli import main
heartbeat.SECONDS_BETWEEN = 0.2
main(["train", "--data", "synthetic:leaves,resolution=32,n=64", "--preset", "tiny-32", "--workers", "0",
      "--snapshot-images", "512", "--out", sys.argv[1]])
"""


@pytest.mark.slow
def test_watching_ends_after_a_killed_trainer_when_all_is_scored(tmp_path, monkeypatch, caplog):
    # Wrong: to wait for ever; to end while it lives, or before its last checkpoint is scored.
    monkeypatch.setattr(heartbeat, "GRACE", 5.0)
    run, beats = tmp_path / "run", []
    trainer = subprocess.Popen([sys.executable, "-c", _TRAIN, str(run)], cwd=ROOT, stderr=subprocess.DEVNULL)
    at_last = threading.Timer(
        90, lambda: [run.mkdir(exist_ok=True), (run / "finished.json").write_text("{}")]
    )
    at_last.start()

    def progress(what, done, total):
        if trainer.poll() is None and (run / "checkpoints").is_dir() and len(checkpoints(run)) >= 2:
            with pytest.raises(OptionError, match="is being trained in by another process"):
                train(REAL, run, CONFIG)
            beats.append(json.loads((run / "heartbeat.json").read_text()))
            trainer.kill()
            trainer.wait()  # or the next call may find it alive and its lock free

    with trainer:
        try:
            score(run, watch=True, poll_seconds=0.1, metrics=[SWD], progress=progress)
        finally:
            at_last.cancel()
            trainer.kill()
    assert beats[0]["pid"] == trainer.pid
    assert beats[0]["images_shown"] >= 512  # it is a moment old
    scored = [entry.item["file"] for entry in run_scores.read(run) if entry.kind == "checkpoint"]
    assert scored == [f"checkpoints/{path.name}" for path in checkpoints(run)]
    assert "nobody trains in" in caplog.text
    assert not (run / "finished.json").exists()
    # What the killed process left keeps nobody from training on; but these are other images.
    with pytest.raises(OptionError, match="is a run on other images"):
        train(REAL, run, CONFIG)


def test_a_run_that_finished_while_it_was_scored_is_not_taken_for_killed(run, monkeypatch, caplog):
    monkeypatch.setattr(heartbeat, "GRACE", 0.0)
    (run / "finished.json").unlink()
    (run / "heartbeat.json").write_text("{}")

    def progress(what, done, total):
        (run / "heartbeat.json").unlink(missing_ok=True)
        (run / "finished.json").write_text("{}")

    score(run, watch=True, poll_seconds=0.02, metrics=[SWD], progress=progress)
    assert [label for kind, label in items(run) if kind == "checkpoint"] == LABELS
    assert "nobody trains in" not in caplog.text


@pytest.mark.slow
def test_half_of_a_checkpoint_is_no_checkpoint_while_it_is_being_written(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    path = run / "10-32.npy"
    # An array of fewer images is a whole array: only its growing shows that it is not the last word.
    np.save(path, real_pixels(N)[:, :, ::-1])
    size = {"now": path.stat().st_size}

    def write():
        for _ in range(12):
            time.sleep(0.1)
            with path.open("ab") as file:
                file.write(b"\0")
        size["end"] = path.stat().st_size
        (run / "finished.json").write_text("{}")

    writer = threading.Thread(target=write)
    writer.start()
    score(run, pattern="{images}-{resolution}.npy", watch=True, poll_seconds=0.25, metrics=[SWD])
    writer.join()
    assert [label for kind, label in items(run) if kind == "checkpoint"] == ["0000000010-32x32"]


@pytest.mark.slow
def test_a_copy_of_the_reals_is_the_same_series_and_other_reals_are_not(run, tmp_path):
    # Wrong: a checkout or `touch` of the reals begins a new series, and everything is scored again.
    images = REAL.batch(range(2 * N + 1)).transpose(0, 2, 3, 1)
    for name, first in (("set", 0), ("other", 1)):
        chosen = images[first : first + 2 * N]
        write(tmp_path / name, {f"{index}.png": encoded(image) for index, image in enumerate(chosen)})
    score(run, tmp_path / "set")
    before = store(run)
    shutil.copytree(tmp_path / "set", tmp_path / "copy", copy_function=shutil.copyfile)
    score(run, tmp_path / "copy")
    assert store(run) == before
    score(run, tmp_path / "other")
    assert store(run).startswith(before)
    assert len({entry.series for entry in run_scores.read(run)}) == 2
