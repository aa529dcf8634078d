"""Memory of control groups as they are laid out by v1, by v2, and in a container."""

from pathlib import Path

import psutil
import pytest

from delia_ray import machine_memory
from delia_ray.machine_memory import Memory, kills, memory

GIB = 2**30


@pytest.fixture
def plant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A function that lays files; this process is then in the group of ``proc/self/cgroup``."""
    monkeypatch.setattr(machine_memory, "ROOT", tmp_path / "sys")
    monkeypatch.setattr(machine_memory, "PROC", tmp_path / "proc")

    def lay(**files: str) -> None:
        for name, text in files.items():
            file = tmp_path / name.replace("__", "/").replace("_0_", ".")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)

    return lay


def test_without_control_groups_it_is_the_machines(plant) -> None:
    found, machine = memory(), psutil.virtual_memory()
    assert (found.limit, found.container) == (machine.total, False)
    assert 0 < found.free <= machine.total
    assert kills() == 0


def test_v2_every_limit_on_the_way_up_counts(plant) -> None:
    plant(
        proc__self__cgroup="0::/a/b\n",
        sys__a__b__memory_0_max="max\n",
        sys__a__b__memory_0_current=f"{GIB // 2}\n",
        sys__a__memory_0_max=f"{GIB}\n",
        sys__a__memory_0_current=f"{3 * GIB // 4}\n",
    )
    assert memory() == Memory(GIB, GIB // 4, True)


def test_v2_the_narrowest_counts_and_files_are_free(plant) -> None:
    plant(
        proc__self__cgroup="0::/a/b\n",
        sys__a__b__memory_0_max=f"{GIB}\n",
        sys__a__b__memory_0_current=f"{GIB}\n",
        sys__a__b__memory_0_stat=f"anon 1\ninactive_file {GIB // 2}\n",
        sys__a__memory_0_max=f"{2 * GIB}\n",
        sys__a__memory_0_current=f"{GIB}\n",
    )
    assert memory() == Memory(GIB, GIB // 2, True)


def test_a_container_that_sees_its_own_group_as_the_root(plant) -> None:
    """It is told the way from the host's root, of which nothing is mounted."""
    plant(
        proc__self__cgroup="0::/kubepods/pod1/c1\n",
        sys__memory_0_max=f"{GIB}\n",
        sys__memory_0_current="0\n",
        sys__memory_0_events="low 0\noom 9\noom_kill 2\noom_group_kill 1\n",
    )
    assert memory() == Memory(GIB, GIB, True)
    assert kills() == 2


def test_v1_has_a_tree_of_its_own_for_memory(plant) -> None:
    plant(
        proc__self__cgroup="5:cpu,cpuacct:/x\n4:memory:/job/step\n0::/\n",
        proc__vmstat="nr_free_pages 9\noom_kill 3\n",
        sys__memory__job__step__memory_0_limit_in_bytes=f"{GIB}\n",
        sys__memory__job__step__memory_0_usage_in_bytes=f"{GIB // 4}\n",
        sys__memory__job__step__memory_0_stat=f"inactive_file 0\ntotal_inactive_file {GIB // 8}\n",
        sys__memory__memory_0_limit_in_bytes=f"{2**63 - 4096}\n",
    )
    assert memory() == Memory(GIB, GIB * 7 // 8, True)
    assert kills() == 3


def test_more_than_the_limit_is_nothing_left(plant) -> None:
    plant(
        proc__self__cgroup="0::/\n",
        sys__memory_0_max=f"{GIB}\n",
        sys__memory_0_current=f"{2 * GIB}\n",
    )
    assert memory() == Memory(GIB, 0, True)


def test_files_that_say_nothing_are_passed_over(plant) -> None:
    plant(
        proc__self__cgroup="what\n0::/a\n",
        sys__a__memory_0_max="\n",
        sys__a__memory_0_events="oom 1\n",
    )
    assert not memory().container
    assert kills() == 0
