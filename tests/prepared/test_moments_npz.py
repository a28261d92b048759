"""npz files of mu and sigma: what is one, what is read, what is refused."""

import zipfile

import numpy as np
import pytest

from pgmetrics.errors import PgmetricsError, StateError
from pgmetrics.prepared.moments_npz import holds_moments, holds_moments_only, read_moments, write_moments


def test_what_is_written_is_read_back(tmp_path):
    mean, covariance = np.arange(3.0), np.diag([1.0, 2.0, 3.0])
    write_moments(tmp_path / "m.npz", mean, covariance)
    back = read_moments(tmp_path / "m.npz")
    np.testing.assert_array_equal(back[0], mean)
    np.testing.assert_array_equal(back[1], covariance)
    assert [p.name for p in tmp_path.iterdir()] == ["m.npz"]


def test_files_are_told_apart(tmp_path):
    np.savez(tmp_path / "images.npz", arr_0=np.zeros((2, 4, 4, 3), np.uint8))
    np.savez_compressed(tmp_path / "moments.npz", mu=np.zeros(2), sigma=np.eye(2))
    np.savez(tmp_path / "adm.npz", arr_0=np.zeros(2), mu=np.zeros(2), sigma=np.eye(2), mu_s=0, sigma_s=0)
    (tmp_path / "text.npz").write_text("no zip")
    kinds = {p.stem: (holds_moments(p), holds_moments_only(p)) for p in tmp_path.iterdir()}
    assert kinds == {
        "images": (False, False), "moments": (True, True), "adm": (True, False), "text": (False, False)
    }  # fmt: skip
    assert not holds_moments(tmp_path)


@pytest.mark.parametrize(
    ("mu", "sigma"),
    [
        (np.zeros(3), np.eye(4)),
        (np.zeros((2, 2)), np.eye(2)),
        (np.zeros(2, int), np.eye(2)),
        (np.array([object()]), np.eye(1)),
        (np.zeros(2), np.eye(2) + 1j),
        (np.zeros(2, complex), np.eye(2)),
        (np.zeros(2), np.eye(2, dtype=int)),
        (np.zeros(0), np.eye(0)),
    ],
)
def test_other_arrays_are_refused(tmp_path, mu, sigma):
    np.savez(tmp_path / "m.npz", mu=mu, sigma=sigma)
    with pytest.raises(StateError, match="mu"):
        read_moments(tmp_path / "m.npz")


def test_a_truncated_file_is_refused_by_name(tmp_path):
    write_moments(tmp_path / "m.npz", np.zeros(50), np.eye(50))
    whole = (tmp_path / "m.npz").read_bytes()
    (tmp_path / "m.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StateError, match=r"m\.npz"):
        read_moments(tmp_path / "m.npz")


def test_a_place_that_cannot_be_written_is_told_and_left_alone(tmp_path):
    with pytest.raises(PgmetricsError, match="cannot be written"):
        write_moments(tmp_path / "none" / "m.npz", np.zeros(2), np.eye(2))
    (tmp_path / "m.npz").mkdir()
    with pytest.raises(PgmetricsError, match="cannot be written"):
        write_moments(tmp_path / "m.npz", np.zeros(2), np.eye(2))
    assert [p.name for p in tmp_path.iterdir()] == ["m.npz"]


def test_a_header_that_claims_more_than_any_memory_is_refused(tmp_path):
    # Catches a reader that makes room for what the header says before it has looked at the file.
    np.savez(tmp_path / "m.npz", mu=np.zeros(2), sigma=np.eye(2))
    with zipfile.ZipFile(tmp_path / "m.npz") as archive:
        mu, sigma = (archive.read(f"{name}.npy") for name in ("mu", "sigma"))
    with zipfile.ZipFile(tmp_path / "m.npz", "w") as archive:
        archive.writestr("mu.npy", mu)
        archive.writestr("sigma.npy", sigma.replace(b"(2, 2), }          ", b"(%d, %d), }" % (10**5, 10**8)))
    with pytest.raises(StateError, match="holds no mu and sigma that can be read"):
        read_moments(tmp_path / "m.npz")
