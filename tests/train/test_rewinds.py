"""Going back passes by the batch that did it, whatever is stopped and continued in between."""

from pathlib import Path

import pytest

from reenax.core.errors import UserError
from reenax.train.rewinds import Rewinds


def test_the_batch_that_did_it_is_passed_by(tmp_path: Path) -> None:
    rewinds = Rewinds(tmp_path, 0)
    rewinds.add(7, 5, write=True)  # the batch of step 7 is number 6
    assert rewinds.data_step(5) == 7
    rewinds.add(8, 5, write=True)  # and that of step 8 is now number 9
    assert rewinds.data_step(5) == 10
    rewinds.add(22, 20, write=True)
    assert rewinds.data_step(20) == 27
    assert (rewinds.times(5), rewinds.times(20), rewinds.times(6)) == (2, 1, 0)


@pytest.mark.parametrize("start", [5, 12, 19])
def test_a_resume_reads_what_an_undisturbed_run_reads(tmp_path: Path, start: int) -> None:
    rewinds = Rewinds(tmp_path, 0)
    rewinds.add(7, 5, write=True)
    there = rewinds.data_step(start)
    rewinds.add(22, 20, write=True)
    assert Rewinds(tmp_path, start).data_step(start) == there
    assert Rewinds(tmp_path, 25).data_step(25) == rewinds.data_step(25)


def test_going_back_behind_an_earlier_rewind_passes_by_it_too(tmp_path: Path) -> None:
    rewinds = Rewinds(tmp_path, 0)
    rewinds.add(27, 25, write=True)
    reached = rewinds.data_step(43)
    rewinds.add(43, 20, write=True)  # the checkpoints of 25 and 40 were damaged
    assert rewinds.data_step(20) == reached
    for start in (20, 22, 30):
        assert Rewinds(tmp_path, start).data_step(start) == rewinds.data_step(start)


def test_only_one_process_writes(tmp_path: Path) -> None:
    rewinds = Rewinds(tmp_path, 0)
    rewinds.add(7, 5, write=False)
    assert rewinds.data_step(5) == 7
    assert not (tmp_path / "rewinds.json").exists()


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "rewinds.json").write_text('[{"at": 3}]')
    with pytest.raises(UserError, match=r"rewinds.json cannot be read .*restore it, or remove it"):
        Rewinds(tmp_path, 9)
