"""Several GPUs, one process each, and GPUs that are full or fail. There is none here: stand-ins take their place."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import planted
import pytest
import torch
from failing_work import OnGpus
from test_picker import NET
from test_run_find import SCENE, picking
from test_run_find import back_end as on_cpu

from upicker.config import Config
from upicker.errors import DeviceError, UPickerWarning
from upicker.io.micrographs import Reading
from upicker.model import weights
from upicker.model.weights import Header
from upicker.pick import picker as picker_module
from upicker.pick import torch_network
from upicker.pick.network import DeviceFullError, LoadedNetwork
from upicker.pick.picker import Picker
from upicker.pick.sparing import Sparing
from upicker.pick.torch_network import gpus
from upicker.run import pick, relion
from upicker.run.batch import Outcome, each
from upicker.run.pick import processes, sharing_cores
from upicker.run.relion import JobOutputs, RelionJob
from upicker.run.worker import Worker
from upicker.simulate.scene import make

PATHS = [Path(f"m{number}.mrc") for number in range(12)]


@pytest.fixture(autouse=True)
def all_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has chosen some of this machine's."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def run(work: OnGpus, jobs: int, paths: list[Path] = PATHS) -> dict[str, Outcome[str]]:
    found = {outcome.path.stem: outcome for outcome in each(paths, work, jobs)}
    assert len(found) == len(paths)
    return found


def warned(outcomes: dict[str, Outcome[str]]) -> list[str]:
    return [stem for stem, outcome in outcomes.items() if outcome.warnings]


def test_each_process_sees_one_gpu(tmp_path):
    found = run(OnGpus(tmp_path, ("GPU-a", "3"), {}), 2)
    assert {one.value for one in found.values()} <= {"GPU-a", "3"}
    assert warned(found) == []


def test_more_processes_than_gpus_share_them(tmp_path):
    assert {one.value for one in run(OnGpus(tmp_path, ("5",), {}), 2).values()} == {"5"}


def test_without_gpus_the_environment_stays(tmp_path):
    assert {one.value for one in run(OnGpus(tmp_path, (), {}), 2).values()} == {"all"}


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_gpu_that_fails_once_costs_nothing(tmp_path, jobs):
    # In this process, whose GPU has no name, or in one of several.
    name = {1: "all", 2: "1"}[jobs]
    found = run(OnGpus(tmp_path, ("0", "1"), {name: (1,)}), jobs)
    assert [one.error for one in found.values() if one.error] == []
    used = (tmp_path / name).read_text().split() if (tmp_path / name).exists() else []
    if len(used) > 1:
        assert warned(found) == [used[1]]
        [warning] = found[used[1]].warnings
        assert str(warning) == (
            f"{used[1]}.mrc: the GPU {name} failed while working on it (CUDA error); it was done once more, by another "
            "one. Look at it."
        )
    if jobs == 1:
        assert len(used) == 2
        assert list(found) == ["m0", *(f"m{number}" for number in range(2, 12)), "m1"]


def test_a_gpu_that_fails_again_is_left_to_the_others(tmp_path):
    found = run(OnGpus(tmp_path, ("0", "1"), {"1": tuple(range(99))}), 2)
    assert {one.value for one in found.values()} == {"0"}
    failed = (tmp_path / "1").read_text().split() if (tmp_path / "1").exists() else []
    assert len(failed) <= 2
    assert sorted(warned(found)) == sorted(failed)


def test_a_file_at_which_a_gpu_failed_goes_to_another_one(tmp_path):
    """However few files there are: the GPU that failed is free first."""
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        found = run(OnGpus(folder, ("0", "1"), {"1": tuple(range(99))}), 2, PATHS[:3])
        assert {one.value for one in found.values()} == {"0"}


@pytest.mark.parametrize("jobs", [1, 2])
def test_the_last_gpu_that_fails_again_is_a_named_error(tmp_path, jobs):
    always = tuple(range(99))
    work = OnGpus(tmp_path, ("0", "1"), {"0": always, "1": always, "all": always})
    with pytest.raises(DeviceError, match=r"the GPU \w+: CUDA error\. Look at it\."):
        run(work, jobs)
    used = [tmp_path / name for name in ("0", "1", "all")]
    tries = [line for file in used if file.exists() for line in file.read_text().splitlines()]
    assert len(tries) == 2 * jobs


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_file_at_which_any_gpu_fails_is_given_up_alone(tmp_path, jobs):
    found = run(OnGpus(tmp_path, ("0", "1"), {"m4": tuple(range(99))}), jobs)
    assert [stem for stem, one in found.items() if one.error] == ["m4"]
    assert "failed while working on it (CUDA error), 2 times. Look at it." in str(found["m4"].error)
    assert warned(found) == []


def test_the_process_of_the_page_is_replaced_when_its_gpu_fails(tmp_path):
    worker, work = Worker(), OnGpus(tmp_path, (), {"all": (0,)})
    try:
        with pytest.raises(DeviceError):
            worker.do(work, PATHS[0])
        assert worker.do(work, PATHS[1]) == "all"
    finally:
        worker.close()


class FakeCuda:
    """What torch says of the GPUs that CUDA_VISIBLE_DEVICES leaves of eight."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, visible: str | None, count: int) -> None:
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


@pytest.mark.parametrize(
    ("visible", "count", "expected"),
    [
        (None, 8, tuple("01234567")),
        (None, 0, ()),
        ("", 0, ()),
        ("-1", 0, ()),
        ("2,5", 2, ("2", "5")),
        (" 2, 5 ", 2, ("2", "5")),
        # What follows an invalid one does not count.
        ("2,-1,5", 1, ("2",)),
        ("GPU-8932f937,GPU-1f2a", 2, ("GPU-8932f937", "GPU-1f2a")),
        # Of several parts of a GPU torch sees one.
        ("MIG-1a,MIG-2b", 1, ("MIG-1a",)),
    ],
)
def test_the_gpus_are_those_that_torch_sees_by_their_names(monkeypatch, visible, count, expected):
    FakeCuda(monkeypatch, visible, count)
    assert gpus(Config()) == expected
    assert gpus(Config().with_changes({"train.device": "cuda"})) == expected
    for device in ("cuda:1", "cpu", "mps"):
        assert gpus(Config().with_changes({"train.device": device})) == ()
    monkeypatch.setattr(torch.version, "hip", "6.4")
    assert gpus(Config()) == ()


@pytest.mark.parametrize(
    ("device", "number", "files", "cores", "gib", "expected"),
    [
        ("cuda", 8, 1000, 2, 256, 8),
        ("cuda", 8, 40, 64, 256, 2),
        ("cuda", 8, 3, 64, 256, 1),
        ("cuda", 0, 1000, 64, 256, 1),  # One that the user named.
        ("cuda", 8, 1000, 64, 7, 3),
        ("cpu", 0, 1000, 64, 256, 64),
        ("cpu", 0, 1000, 1, 256, 1),
        ("cpu", 0, 1000, 64, 1, 1),
        ("cpu", 0, 7, 64, 256, 1),
    ],
)
def test_processes_follow_gpus_cores_memory_and_files(
    monkeypatch, tmp_path, device, number, files, cores, gib, expected
):
    monkeypatch.setattr(pick, "cores", lambda: cores)
    monkeypatch.setattr(pick, "memory_bytes", lambda: gib * 2**30)
    picker = picking(tmp_path, tmp_path / "m.dat").picker
    picker.device, picker.gpus = device, tuple(map(str, range(number)))
    assert processes(files, picker) == expected


def test_where_memory_is_short_each_process_takes_one_tile_at_a_time(monkeypatch, tmp_path):
    picker = picking(tmp_path, tmp_path / "m.dat").picker
    monkeypatch.setattr(pick, "cores", lambda: 4)
    usual = picker.config.pick.batch
    assert usual > 1
    for gib, jobs, batch, threads in ((8, 4, usual, 1), (7, 4, 1, 1), (1, 1, 1, 0), (2, 1, usual, 0)):
        monkeypatch.setattr(pick, "memory_bytes", lambda gib=gib: gib * 2**30)
        config = sharing_cores(picker, jobs).config
        assert (config.pick.batch, config.train.threads) == (batch, threads)


class Small:
    """The network of dots with memory for a few tiles."""

    def __init__(self, most: int, error: type[MemoryError] = DeviceFullError) -> None:
        self.dots, self.most, self.batches, self.error = planted.Dots(), most, [], error

    def __call__(self, tiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.batches.append(len(tiles))
        if len(tiles) > self.most:
            raise self.error("CUDA out of memory")
        return self.dots(tiles)


@pytest.mark.parametrize("error", [DeviceFullError, MemoryError])
def test_fewer_tiles_are_computed_together_where_memory_is_short(error):
    tiles = np.random.default_rng(0).uniform(0, 1, (7, 1, 64, 64)).astype(np.float32)
    small = Small(2, error)
    network = Sparing(small)
    for _ in range(2):
        for found, expected in zip(network(tiles), planted.Dots()(tiles), strict=True):
            np.testing.assert_array_equal(found, expected)
    # It remembers.
    assert small.batches == [7, 3, *[1] * 14]
    with pytest.raises(error):
        Sparing(Small(0, error))(tiles)


def full(path: Path, changes: Mapping[str, object]) -> LoadedNetwork:
    """A back end whose GPU has memory for nothing."""
    config = planted.CONFIG.with_changes(changes)
    return LoadedNetwork(Small(0), config, on_cpu(path, {}).diameter, 0.3, "cuda", ("0",), planted.Dots)


def test_a_micrograph_is_picked_on_the_cpu_where_the_gpu_is_full(tmp_path):
    micrograph = make(SCENE, 1).micrograph
    expected = Picker(tmp_path / "m.dat", {}, on_cpu).pick(micrograph, 60.0)
    picker = Picker(tmp_path / "m.dat", {}, full)
    for _ in range(2):
        with pytest.warns(UPickerWarning, match="the memory of the GPU is full.*on the CPU.*fewer --jobs"):
            found = picker.pick(micrograph, 60.0)
        assert len(found) > 3
        np.testing.assert_array_equal(found.xy, expected.xy)


@pytest.mark.parametrize(
    ("device", "raised", "expected"),
    [
        ("cuda", torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), DeviceFullError),
        ("cuda", RuntimeError("CUDA error: out of memory\nCUDA kernel errors might"), DeviceFullError),
        ("cuda", RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), DeviceFullError),
        ("mps", RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"), DeviceFullError),
        ("cuda", RuntimeError("CUDA error: an illegal memory access was encountered"), DeviceError),
        ("cuda", RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable"), DeviceError),
        ("cuda", RuntimeError("No CUDA GPUs are available"), DeviceError),
        ("cuda", RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), DeviceError),
        ("cuda", RuntimeError("mat1 and mat2 shapes cannot be multiplied"), RuntimeError),
        ("cpu", RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), MemoryError),
        ("cpu", RuntimeError("could not create a memory object"), MemoryError),
        ("cpu", RuntimeError("CUDA error: of something else"), RuntimeError),
    ],
)
def test_errors_of_torch_are_told_apart(device, raised, expected):
    with pytest.raises(expected) as caught, torch_network._named_errors(torch.device(device)):
        raise raised
    assert caught.type is expected
    if expected is not RuntimeError:
        assert "\n" not in str(caught.value)


def test_a_network_goes_to_its_device_with_the_first_tiles(monkeypatch, tmp_path):
    path, config = tmp_path / "tiny.safetensors", Config().with_changes(NET)
    with torch.random.fork_rng(devices=[]):
        model = weights.build(config)
    weights.save(path, model, Header(config.to_tables(), "20px", "finetune", 0.3, None, None, None, steps=1))
    FakeCuda(monkeypatch, "1,2", 2)
    placed = []
    monkeypatch.setattr(
        torch_network, "TorchNetwork", lambda _, config: (placed.append(config.train.device), planted.Dots())[1]
    )
    loaded = torch_network.load(path, {})
    assert (loaded.device, loaded.gpus, placed) == ("cuda", ("1", "2"), [])
    for _ in range(2):
        loaded.network(np.zeros((1, 1, 64, 64), np.float32))
    assert placed == ["auto"]
    assert loaded.spare is not None
    loaded.spare()
    assert placed == ["auto", "cpu"]
    assert torch_network.load(path, {"train.device": "cpu"}).spare is None


def four(path: Path, changes: Mapping[str, object]) -> LoadedNetwork:
    """A back end with four GPUs."""
    return replace(on_cpu(path, changes), device="cuda", gpus=("0", "1", "2", "3"))


def test_a_job_of_relion_uses_all_gpus_whatever_its_threads(monkeypatch, tmp_path):
    monkeypatch.setattr(picker_module, "Picker", lambda path, changes, *_: Picker(path, changes, four))
    monkeypatch.setattr(pick, "memory_bytes", lambda: 256 * 2**30)
    job = RelionJob(tmp_path / "mics.star", {}, Reading(), JobOutputs(tmp_path, {}))
    for threads, each_has in ((1, 1), (8, 2)):
        work, jobs = relion.picking(job, 10 * len(PATHS), tmp_path / "m.dat", None, {}, threads)
        assert (jobs, work.gpus, work.config.train.threads) == (4, ("0", "1", "2", "3"), each_has)


@pytest.mark.parametrize("mkldnn", [False, True])
def test_a_processor_without_bfloat16_computes_in_float32(monkeypatch, mkldnn):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: mkldnn)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: not mkldnn, raising=False)
    cpu = torch.device("cpu")
    assert torch_network.precision(Config(), cpu) == torch.float32
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported")
    assert torch_network.precision(Config(), cpu) == torch.float32
