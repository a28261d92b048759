"""Finding, checking and loading weights: every place, every refusal, no network."""

import hashlib
import os
import pickle
import urllib.error
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pgmetrics.errors import OptionError, PgmetricsError, WeightsError
from pgmetrics.features import weights
from pgmetrics.features.weights import PUBLISHED, find, load, locate, make_bundle

LAYOUT = {"a.weight": torch.zeros(2, 3), "a.bias": torch.zeros(2), "seen": torch.zeros((), dtype=torch.int64)}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty torch hub cache, in place of the user's."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    place = tmp_path / "torch" / "hub" / "checkpoints"
    place.mkdir(parents=True)
    return place


@pytest.fixture
def good(tmp_path, cache, monkeypatch):
    """A small file that stands for the published Inception."""
    path = tmp_path / "good.pth"
    torch.save({name: tensor + 1 for name, tensor in LAYOUT.items()}, path)
    content = path.read_bytes()
    monkeypatch.setitem(
        PUBLISHED,
        "inception",
        replace(PUBLISHED["inception"], sha256=hashlib.sha256(content).hexdigest(), size=len(content)),
    )
    return path


def put(good, place):
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(good.read_bytes())
    return place


def one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


def test_the_published_files_are_named_as_the_tools_that_use_them_do():
    inceptionv3 = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    assert PUBLISHED["inception"].urls[0] == inceptionv3.URL_INCEPTION_V3
    assert PUBLISHED["inception"].names == (
        "weights-inception-2015-12-05-6726825d.pth",
        "pt_inception-2015-12-05-6726825d.pth",
    )
    torchvision = pytest.importorskip("torchvision.models")
    assert PUBLISHED["vgg16"].urls == (torchvision.VGG16_Weights.IMAGENET1K_V1.url,)
    for published in PUBLISHED.values():
        # torch hub puts the beginning of the digest into the name.
        assert all(name.endswith(f"-{published.sha256[:8]}.pth") for name in published.names)
        assert len(published.sha256) == 64


def test_places_are_searched_in_the_order_that_is_documented(good, cache, tmp_path, monkeypatch):
    with pytest.raises(WeightsError):
        find("inception", download=False)
    second, first = PUBLISHED["inception"].names[::-1]
    assert find("inception", download=False, path=good).path == good
    hub = put(good, cache / second)
    assert find("inception", download=False).path == hub
    hub = put(good, cache / first)
    assert find("inception", download=False).path == hub
    bundle = put(good, tmp_path / "bundle" / second)
    monkeypatch.setenv("PGMETRICS_WEIGHTS", str(bundle.parent))
    assert find("inception", download=False).path == bundle
    mine = put(good, tmp_path / "mine.pth")
    monkeypatch.setenv("PGMETRICS_WEIGHTS_INCEPTION", str(mine))
    found = find("inception", download=False)
    assert (found.path, found.verified, found.digest) == (mine, True, PUBLISHED["inception"].sha256)
    assert find("inception", good).path == good


def test_a_bundle_without_the_file_does_not_hide_the_cache(good, cache, tmp_path, monkeypatch):
    monkeypatch.setenv("PGMETRICS_WEIGHTS", str(tmp_path))
    assert locate("inception") is None
    hub = put(good, cache / PUBLISHED["inception"].names[0])
    assert locate("inception") == hub


def test_missing_weights_are_fetched_into_the_cache_with_their_digest_checked(good, cache, monkeypatch):
    asked = []

    def fetch(url, target, hash_prefix=None):
        asked.append((url, hash_prefix))
        if len(asked) == 1:
            raise urllib.error.HTTPError(url, 404, "Not Found", None, None)
        put(good, Path(target))

    monkeypatch.setattr("torch.hub.download_url_to_file", fetch)
    found = find("inception")
    published = PUBLISHED["inception"]
    assert found.path == cache / published.names[1]
    assert asked == [(url, published.sha256) for url in published.urls]
    find("inception")
    assert len(asked) == 2


def test_offline_one_line_says_which_file_its_digest_where_to_get_and_where_to_put_it(cache):
    with pytest.raises(WeightsError) as error:
        find("vgg16")
    text = one_line(error)
    published = PUBLISHED["vgg16"]
    for fact in (published.names[0], published.sha256, "553,433,881", published.urls[0], str(cache)):
        assert fact in text
    for fact in ("no network in tests", "--weights vgg16=PATH", "PGMETRICS_WEIGHTS_VGG16"):
        assert fact in text


@pytest.mark.parametrize(("value", "downloads"), [("1", 0), ("true", 0), ("0", 1), ("", 1), (None, 1)])
def test_offline_no_download_is_tried(good, cache, monkeypatch, value, downloads):
    asked = []

    def download(url, target, hash_prefix):
        asked.append(url)
        put(good, Path(target))

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    monkeypatch.delenv("PGMETRICS_OFFLINE", raising=False)
    if value is not None:
        monkeypatch.setenv("PGMETRICS_OFFLINE", value)
    if downloads:
        assert find("inception").verified
    else:
        with pytest.raises(WeightsError, match="PGMETRICS_OFFLINE forbids downloads") as refusal:
            find("inception")
        assert "pgmetrics weights --bundle DIR" in one_line(refusal)
        # What is here is used.
        assert find("inception", good).path == good
    assert len(asked) == downloads


def test_a_download_that_is_not_allowed_is_not_tried(cache):
    with pytest.raises(WeightsError, match="may not be downloaded"):
        find("inception", download=False)


@pytest.mark.parametrize("where", ["given", "cache", "bundle", "variable"])
def test_a_truncated_file_is_refused_wherever_it_lies(good, cache, tmp_path, monkeypatch, where):
    content = good.read_bytes()[:-100]
    name = PUBLISHED["inception"].names[0]
    path = {"cache": cache / name, "bundle": tmp_path / "b" / name}.get(where, tmp_path / "t.pth")
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    if where == "bundle":
        monkeypatch.setenv("PGMETRICS_WEIGHTS", str(path.parent))
    if where == "variable":
        monkeypatch.setenv("PGMETRICS_WEIGHTS_INCEPTION", str(path))
    with pytest.raises(WeightsError) as error:
        find("inception", path if where == "given" else None)
    text = one_line(error)
    digest = hashlib.sha256(content).hexdigest()
    assert all(fact in text for fact in (str(path), digest, PUBLISHED["inception"].sha256, "unverified"))
    allowed = find("inception", path, allow_unverified=True)
    assert (allowed.digest, allowed.verified) == (digest, False)
    with pytest.raises(WeightsError, match="not a plain file of tensors"):
        load(allowed, LAYOUT)


def test_paths_that_lead_nowhere_are_refused_by_whoever_named_them(good, tmp_path, monkeypatch):
    with pytest.raises(WeightsError, match=r"absent\.pth, which the path given"):
        find("inception", tmp_path / "absent.pth")
    with pytest.raises(WeightsError, match="is a directory"):
        find("inception", tmp_path)
    monkeypatch.setenv("PGMETRICS_WEIGHTS", str(tmp_path / "absent"))
    with pytest.raises(WeightsError, match=r"PGMETRICS_WEIGHTS names .*absent"):
        find("inception")
    monkeypatch.setenv("PGMETRICS_WEIGHTS_INCEPTION", str(tmp_path / "absent.pth"))
    with pytest.raises(WeightsError, match="which PGMETRICS_WEIGHTS_INCEPTION names"):
        find("inception")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file_is_refused(good):
    good.chmod(0)
    with pytest.raises(WeightsError, match="cannot be read"):
        find("inception", good)


def test_an_unknown_network_is_an_option_error():
    with pytest.raises(OptionError, match=r"'resnet'.*inception, vgg16"):
        find("resnet")


class _Runs:
    def __reduce__(self):
        return (os.mkdir, ("was-run",))


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        (b"", "not a plain file of tensors"),
        (b"GIF89a and so on", "not a plain file of tensors"),
        (pickle.dumps(_Runs(), protocol=2), "asks to run (posix|nt|os).mkdir"),
        (pickle.dumps({"a": 1}, protocol=2), "not a state dict of tensors|not a plain file"),
    ],
)
def test_what_is_no_state_dict_is_refused_and_never_run(tmp_path, monkeypatch, content, fact):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "x.pth"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=fact) as error:
        load(find("inception", path, allow_unverified=True), LAYOUT)
    one_line(error)
    torch.save(_Runs(), path)
    with pytest.raises(WeightsError, match="asks to run"):
        load(find("inception", path, allow_unverified=True), LAYOUT)
    assert not (tmp_path / "was-run").exists()
    assert "weights_only" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        (lambda state: state.pop("a.bias"), r"lacks 1 tensors, such as a\.bias"),
        (lambda state: state.update(b=torch.zeros(1)), "unknown 1 tensors, such as b"),
        (lambda state: state.update({"a.bias": torch.zeros(3)}), r"a\.bias is \[3\], expected \[2\]"),
        (lambda state: state.update({"a.bias": "text"}), "not a state dict of tensors"),
    ],
)
def test_another_networks_weights_are_refused_by_a_tensor(good, change, fact):
    state = torch.load(good, weights_only=True)
    change(state)
    torch.save(state, good)
    with pytest.raises(WeightsError, match=fact):
        load(find("inception", good, allow_unverified=True), LAYOUT)


def test_tensors_come_as_float32_in_the_order_of_the_layout(good):
    state = {name: tensor + 1 for name, tensor in reversed(LAYOUT.items())}
    state["a.weight"] = state["a.weight"].double()
    torch.save(state, good)
    loaded = load(find("inception", good, allow_unverified=True), LAYOUT)
    assert list(loaded) == list(LAYOUT)
    assert [tensor.dtype for tensor in loaded.values()] == [torch.float32, torch.float32, torch.int64]
    assert all((tensor == 1).all() for tensor in loaded.values())


def test_a_bundle_holds_the_files_under_published_names(good, cache, tmp_path):
    put(good, cache / PUBLISHED["inception"].names[1])
    place = tmp_path / "deep" / "bundle"
    assert make_bundle(place, ["inception"]) == [place / PUBLISHED["inception"].names[0]]
    assert (place / PUBLISHED["inception"].names[0]).read_bytes() == good.read_bytes()
    sums = (place / "SHA256SUMS").read_text()
    assert sums == f"{PUBLISHED['inception'].sha256}  {PUBLISHED['inception'].names[0]}\n"
    assert "PGMETRICS_WEIGHTS" in (place / "README.txt").read_text()
    assert sorted(path.name for path in place.iterdir()) == sorted(
        ["README.txt", "SHA256SUMS", PUBLISHED["inception"].names[0]]
    )


def test_a_bundle_mends_a_broken_file_and_names_what_it_lacks(good, cache, tmp_path):
    put(good, cache / PUBLISHED["inception"].names[0])
    place = tmp_path / "bundle"
    place.mkdir()
    broken = place / PUBLISHED["inception"].names[0]
    broken.write_bytes(b"half")
    with pytest.raises(WeightsError, match=r"lacks 1 of 2 files: vgg16 needs vgg16-397923af\.pth") as error:
        make_bundle(place)
    one_line(error)
    assert broken.read_bytes() == good.read_bytes()


def test_a_bundle_of_nothing_leaves_nothing(cache, tmp_path):
    with pytest.raises(WeightsError, match="lacks 1 of 1"):
        make_bundle(tmp_path / "bundle", ["vgg16"])
    assert not (tmp_path / "bundle").exists()


def test_a_copy_that_fails_leaves_no_half_file(good, cache, tmp_path, monkeypatch):
    put(good, cache / PUBLISHED["inception"].names[0])

    def full(source, target, length):
        target.write(b"some")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(weights.shutil, "copyfileobj", full)
    with pytest.raises(PgmetricsError, match="cannot be written: No space left on device"):
        make_bundle(tmp_path / "bundle", ["inception"])
    assert list((tmp_path / "bundle").iterdir()) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e300])
def test_weights_that_are_not_finite_are_refused_by_file_and_tensor(good, value):
    # Catches a reader that leaves it to the features: the fast form's ReLU makes 0 of NaN, and FID 0.00.
    state = torch.load(good, weights_only=True)
    state["a.weight"] = state["a.weight"].double()  # 1e300 is infinite only as float32
    state["a.weight"][1, 2] = value
    torch.save(state, good)
    with pytest.raises(
        WeightsError, match=r"its a\.weight .*not finite \(1 of 6, the first at \[1, 2\]\)"
    ) as e:
        load(find("inception", good, allow_unverified=True), LAYOUT)
    assert one_line(e).startswith(str(good))
