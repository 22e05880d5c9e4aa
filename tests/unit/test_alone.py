import threading
from pathlib import Path

from scripts.command.alone import alone
from scripts.data.writer import is_complete, make
from tests.unit.test_dataset import make_plan


def test_a_second_program_waits_for_the_first_and_keeps_what_it_made(tmp_path: Path) -> None:
    ticks: list[list[int]] = [[], []]
    plan = make_plan(tmp_path)
    plan.folder.mkdir(parents=True)
    makers = [
        threading.Thread(target=make, args=(plan,), kwargs={"processes": 1, "tick": seen.append}) for seen in ticks
    ]
    with alone(plan.folder):
        for maker in makers:
            maker.start()
            maker.join(0.1)
        assert [maker.is_alive() for maker in makers] == [True, True]
    for maker in makers:
        maker.join(60)

    assert is_complete(plan)
    assert sorted(map(bool, ticks)) == [False, True]
    assert not list(plan.folder.glob(".*"))
