"""The built-in particles have their symmetries, sizes and masses; what is asked for is found, fetched and kept."""

import gzip
import urllib.error

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from upicker.errors import ConfigError, InputError
from upicker.simulate.specimens import cache, rcsb, specimen
from upicker.simulate.specimens.blobs import Blobs
from upicker.simulate.specimens.invented import MOST_BLOBS, Invented
from upicker.simulate.specimens.procedural import build
from upicker.simulate.specimens.specimen import BUILT_IN, Source, load
from upicker.simulate.specimens.structure import CONTRAST_VA3_DA, extension
from upicker.simulate.specimens.volume import Volume

# Symmetry, kDa, longest extension in Angstrom.
EXPECTED = {
    "barrel": ("D7", 700, 150),
    "shell": ("O", 480, 125),
    "globule": ("C1", 2300, 260),
    "rod": ("D2", 465, 180),
    "small": ("C1", 125, 110),
}
INVENTED = ("assembly", "membrane", "nucleic")
ATOM = b"ATOM      1  CA  ALA A%4d    %8.3f   2.000   3.000  1.00 40.00           C\n"


@pytest.fixture
def fetched(tmp_path, monkeypatch):
    """Stands in for RCSB: what is answered, and what was asked."""

    class Answer:
        content: bytes | Exception = b""
        asked: list[str] = []  # noqa: RUF012

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def read(self, size):
            return self.content[:size]

    answer = Answer()
    answer.asked = []

    def opened(address, timeout):
        assert timeout > 0
        answer.asked.append(address)
        if isinstance(answer.content, Exception):
            raise answer.content
        return answer

    monkeypatch.setattr(rcsb.urllib.request, "urlopen", opened)
    monkeypatch.chdir(tmp_path)
    return answer


def cif() -> bytes:
    names = (
        "group_PDB id type_symbol label_atom_id label_alt_id label_comp_id label_asym_id label_seq_id Cartn_x Cartn_y "
        "Cartn_z occupancy B_iso_or_equiv auth_seq_id auth_asym_id pdbx_PDB_model_num"
    )
    head = "data_X\nloop_\n" + "".join(f"_atom_site.{name}\n" for name in names.split())
    rows = "".join(f"ATOM {i} C CA . ALA A {i} {i * 3.8} {i % 3} {-i} 1 40 {i} A 1\n" for i in range(1, 9))
    return gzip.compress((head + rows).encode(), mtime=0)


def test_all_are_known():
    assert {*EXPECTED, *INVENTED} == set(BUILT_IN)


@pytest.mark.parametrize("name", EXPECTED)
def test_symmetry_mass_and_size(name):
    symmetry, mass_kDa, length_A = EXPECTED[name]
    particle = build(name)
    assert particle.weight_VA3.sum() == pytest.approx(mass_kDa * 1e3 * CONTRAST_VA3_DA)
    assert particle.diameter_A == length_A
    assert extension(particle.centres_A) + 2 * particle.sigma_A == pytest.approx(length_A, rel=0.04)
    np.testing.assert_allclose(np.average(particle.centres_A, axis=0, weights=particle.weight_VA3), 0, atol=1e-9)

    def rotated(rotation):
        moved = Blobs("rotated", length_A, particle.centres_A @ rotation.T, particle.sigma_A, particle.weight_VA3)
        return moved.volume(30, length_A / 20)

    volume = rotated(np.eye(3))
    for operator in Rotation.create_group(symmetry).as_matrix():
        np.testing.assert_allclose(rotated(operator), volume, atol=1e-4 * volume.max())
    for other in (Rotation.from_euler("z", 36, degrees=True), Rotation.from_euler("y", 60, degrees=True)):
        assert np.abs(rotated(other.as_matrix()) - volume).max() > 0.1 * volume.max()


def test_the_shell_and_the_barrel_are_hollow_and_the_rod_is_slender():
    assert np.linalg.norm(build("shell").centres_A, axis=1).min() > 38
    barrel = build("barrel").centres_A
    assert np.hypot(*barrel[:, :2].T).min() > 10
    assert np.ptp(barrel[:, 0]) == pytest.approx(115, abs=12)
    rod = build("rod").centres_A
    assert max(np.ptp(rod[:, :2], axis=0)) == pytest.approx(98, abs=12)


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_diameter_scales_everything(name):
    natural = build(name)
    double = build(name, 2 * natural.diameter_A)
    np.testing.assert_allclose(double.centres_A, 2 * natural.centres_A)
    assert double.weight_VA3.sum() == pytest.approx(8 * natural.weight_VA3.sum())
    assert double.sigma_A == 2 * natural.sigma_A
    assert double.radius_A == pytest.approx(2 * natural.radius_A)


@pytest.mark.parametrize("name", INVENTED)
def test_every_seed_invents_another_particle_of_plausible_size_and_mass(name):
    found = [build(name, seed=seed) for seed in range(40)]
    for one in found:
        assert extension(one.centres_A) + 2 * one.sigma_A == pytest.approx(one.diameter_A, rel=0.1)
        assert len(one.centres_A) <= MOST_BLOBS
    mass_kDa = np.array([one.weight_VA3.sum() / CONTRAST_VA3_DA / 1e3 for one in found])
    assert mass_kDa.min() > 8
    assert mass_kDa.max() < 3000
    assert len({round(one.diameter_A, 3) for one in found}) == len(found)
    assert np.std([one.diameter_A for one in found]) > 10


def test_assemblies_have_the_symmetry_that_was_drawn():
    """The copies of a subunit are where the operators of the group take it."""
    rng = np.random.default_rng(0)
    unit = Invented(rng.normal(size=(5, 3)) + 20, np.arange(5) + 1.0)
    whole = unit.repeated("D3")
    assert len(whole.centres_A) == 30
    for operator in Rotation.create_group("D3").as_matrix():
        order = np.lexsort(np.round(whole.centres_A @ operator.T, 6).T)
        same = np.lexsort(np.round(whole.centres_A, 6).T)
        np.testing.assert_allclose((whole.centres_A @ operator.T)[order], whole.centres_A[same], atol=1e-9)
        np.testing.assert_array_equal(whole.mass_kDa[order], whole.mass_kDa[same])


def test_seeds_make_other_particles_and_the_same_seed_the_same():
    first, same, other = (load("globule", Source(seed=seed)) for seed in (1, 1, 2))
    views = [particle.projection(np.eye(3), 61, 5.0) for particle in (first, same, other)]
    np.testing.assert_array_equal(views[0], views[1])
    assert np.abs(views[0] - views[2]).max() > 0.1 * views[0].max()


def test_unknown_names_and_files_are_explained(tmp_path):
    with pytest.raises(InputError, match=r"no such specimen. Built-in specimens: barrel, .*\.pdb.*\.mrc.*3J79"):
        load("ball", Source(cache=tmp_path))
    with pytest.raises(InputError, match="there is no such file"):
        load(tmp_path / "ribosome.mrc")
    with pytest.raises(InputError, match="there is no such file"):
        load("3j79.pdb.gz")
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(InputError, match=r"unknown suffix '.txt'"):
        load(tmp_path / "a.txt")
    with pytest.raises(InputError, match=r"unknown suffix|no such file"):
        load(tmp_path)


@pytest.mark.parametrize("option", ["diameter_A", "voxel_size_A", "mass_kDa"])
@pytest.mark.parametrize("value", [0.0, -3.0, float("nan"), float("inf")])
def test_options_are_positive(option, value):
    with pytest.raises(ConfigError, match=option):
        load("barrel", Source(**{option: value}))


def small_volume() -> Volume:
    return Volume("drawn", np.random.default_rng(0).random((6, 6, 6), np.float32), 2.5, 9.0, 7.0)


def test_the_cache_gives_back_what_was_built_and_mends_itself(tmp_path):
    source = tmp_path / "a.pdb"
    source.write_bytes(b"one")
    built = []

    def build_it():
        built.append(1)
        return small_volume()

    def get(options=("x", None)):
        return cache.cached(source, options, build_it, tmp_path / "cache")

    first, second = get(), get()
    assert len(built) == 1
    np.testing.assert_array_equal(first.density_V, second.density_V)
    assert (second.name, second.voxel_size_A, second.diameter_A, second.radius_A) == ("drawn", 2.5, 9.0, 7.0)
    get(("y", None))
    assert len(built) == 2, "other options are another entry"
    source.write_bytes(b"two")
    get()
    assert len(built) == 3, "another content is another entry"
    (entry, *_) = sorted((tmp_path / "cache" / "potentials").iterdir())
    for damage in (
        b"",
        entry.read_bytes()[:300],
        bytes(len(entry.read_bytes())),
        entry.read_bytes()[:-900] + b"x" * 900,
    ):
        for other in entry.parent.iterdir():
            other.write_bytes(damage)
        before = len(built)
        get()
        assert len(built) == before + 1
        get()
        assert len(built) == before + 1


def test_a_flipped_byte_in_the_cache_is_noticed(tmp_path):
    source = tmp_path / "a.pdb"
    source.write_bytes(b"one")
    cache.cached(source, (), small_volume, tmp_path)
    (entry,) = (tmp_path / "potentials").iterdir()
    content = bytearray(entry.read_bytes())
    content[600] ^= 1
    entry.write_bytes(content)
    calls = []
    cache.cached(source, (), lambda: calls.append(1) or small_volume(), tmp_path)
    assert calls


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path):
    (tmp_path / "a.pdb").write_bytes(b"one")
    (tmp_path / "file").write_bytes(b"")
    volume = cache.cached(tmp_path / "a.pdb", (), small_volume, tmp_path / "file")
    assert volume.name == "drawn"


def test_the_caches_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("UPICKER_CACHE", str(tmp_path))
    assert cache.folder() == tmp_path
    monkeypatch.delenv("UPICKER_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr(cache.sys, "platform", "linux")
    assert cache.folder() == tmp_path / "xdg" / "upicker"


def test_an_entry_is_downloaded_once(fetched, tmp_path):
    pytest.importorskip("gemmi")
    fetched.content = cif()
    for _ in range(2):
        found = load("9abc", Source(cache=tmp_path / "cache"))
        specimen._from_file.cache_clear()
    assert found.diameter_A > 25
    assert fetched.asked == ["https://files.rcsb.org/download/9ABC.cif.gz"]
    assert (tmp_path / "cache" / "structures" / "9abc.cif.gz").is_file()


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (urllib.error.URLError("no route"), r"cannot be reached \(no route\).*Download 9abc.cif.gz"),
        (TimeoutError("timed out"), r"cannot be reached \(timed out\).*Download 9abc"),
        (urllib.error.HTTPError("x", 404, "Not Found", None, None), "no such entry"),  # pyright: ignore
        (urllib.error.HTTPError("x", 503, "Busy", None, None), "503 Busy.*Download 9abc"),  # pyright: ignore
        (b"<html>hello</html>", "not a complete gzip file"),
        (gzip.compress(b"x" * 5000, mtime=0)[:20], "not a complete gzip file"),
    ],
)
def test_failed_downloads_are_explained(fetched, tmp_path, response, message):
    fetched.content = response
    with pytest.raises(InputError, match=message):
        load("9ABC", Source(cache=tmp_path / "cache"))
    assert not (tmp_path / "cache" / "structures").exists()


def test_too_large_a_response_is_refused(fetched, tmp_path, monkeypatch):
    monkeypatch.setattr(rcsb, "MAX_BYTES", 10)
    fetched.content = cif()
    with pytest.raises(InputError, match="more than"):
        load("9ABC", Source(cache=tmp_path))


def test_a_file_of_that_name_needs_no_network(fetched, tmp_path):
    (tmp_path / "9abc").write_bytes(b"")
    with pytest.raises(InputError, match="unknown suffix"):
        load("9abc")
    assert not fetched.asked


def test_a_file_that_changes_is_read_again(tmp_path):
    pytest.importorskip("gemmi")
    path = tmp_path / "a.pdb"
    lengths = []
    for reach in (10.0, 80.0):
        path.write_bytes(ATOM % (1, 0.0) + ATOM % (2, reach) + (b"" if reach < 20 else b"REMARK\n"))
        lengths.append(load(path, Source(cache=tmp_path)).diameter_A)
    assert lengths[1] - lengths[0] == pytest.approx(70)
