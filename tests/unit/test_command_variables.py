"""How the variables behind `make` are read, and how a command ends."""

import gc
import io
import os
import re
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from inference.errors import ShardFormatError
from scripts import emulate
from scripts.command.errors import CommandError, UsageError
from scripts.command.exhausted import OUT_OF_MEMORY, REMEDIES, with_remedy
from scripts.command.machine import num_cores
from scripts.command.program import exit_status, start, start_one_of, usage
from scripts.command.variables import Flag, Variables, read_value, read_variables, rows_asked
from scripts.data.plan import DatasetVariables
from scripts.import_run import ImportVariables
from scripts.local_aws import server
from scripts.local_aws.rudeness import Rudeness
from scripts.sweep import SweepVariables

Galaxies = Annotated[int, Meta(ge=1, le=1000, description="a whole number of galaxies from 1 to 1000")]


class ExampleVariables(Variables, frozen=True, kw_only=True):
    """Variables of an example."""

    batch: Galaxies | None = None
    size_mb: Annotated[float, Meta(gt=0, description="a size in megabytes")] = 10.0
    target: Literal["local", "aws"] | None = None
    yes: Flag = False
    name: Annotated[str, Meta(description="a name")] = ""


def read(**environment: str) -> ExampleVariables:
    return read_variables(ExampleVariables, environment)


def test_every_variable_is_read_as_what_it_must_be() -> None:
    variables = read(BATCH="64", SIZE_MB="2.5", TARGET="aws", YES="1", NAME=" two words ")

    assert variables == ExampleVariables(batch=64, size_mb=2.5, target="aws", yes=True, name="two words")


def test_a_word_of_another_program_does_not_count_and_is_said_by_the_commands_that_know_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def main(variables: ExampleVariables) -> None:
        assert not variables.given

    assert exit_status(main, {"IGNORED_VARIABLES": "BATCH PROFILE NAME"}) == 0
    assert (
        capsys.readouterr().err
        == "BATCH is set in the environment, where it does not count: write BATCH=… behind make.\n"
    )


@pytest.mark.parametrize("text", ["1000", "1,000", "1_000", "1e3", "1000.0"])
def test_a_whole_number_is_written_as_people_do(text: str) -> None:
    assert read(BATCH=text).batch == 1000


def test_a_path_is_read_as_one() -> None:
    assert read_value("BASE", "runs/12,5.json", Annotated[Path | None, Meta(description="a file")]) == Path(
        "runs/12,5.json"
    )


def test_a_number_of_rows_may_have_the_name_of_a_published_size() -> None:
    assert [rows_asked(rows) for rows in ("small", "medium", "large", 7)] == [250, 626, 1253, 7]


@pytest.mark.parametrize("empty", ["", "  "])
def test_an_empty_variable_counts_as_not_given(empty: str) -> None:
    assert read(BATCH=empty, TARGET=empty, YES=empty) == ExampleVariables()


def test_what_is_no_variable_of_the_command_is_not_looked_at() -> None:
    assert read(HOME="/root", batch="3") == ExampleVariables()


@pytest.mark.parametrize(
    ("given", "answer"),
    [
        (
            "SIZEMB",
            "SIZEMB is no variable of this command. Did you mean SIZE_MB? It takes BATCH, SIZE_MB, TARGET",
        ),
        ("batch", "batch is no variable of this command. Did you mean BATCH?"),
        ("BATCH MODEL", "MODEL is no variable of this command. It takes "),
    ],
)
def test_what_was_written_behind_make_and_is_no_variable_is_refused_with_the_nearest(given: str, answer: str) -> None:
    with pytest.raises(UsageError, match=f"^{re.escape(answer)}"):
        read(GIVEN_VARIABLES=given, BATCH="3")


@pytest.mark.parametrize("given", ["BATCH NAME", "VENV PYTHON YES", "AWS_PROFILE https_proxy PIP_FIND_LINKS", ""])
def test_what_was_written_behind_make_may_be_for_the_command_its_set_up_or_programs_below(given: str) -> None:
    assert read(GIVEN_VARIABLES=given, MODEL="of the environment") == ExampleVariables()


def test_programs_that_a_command_starts_do_not_see_what_was_written_behind_its_make(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def main(variables: ExampleVariables) -> int:
        return 3 if "GIVEN_VARIABLES" in os.environ else 4

    monkeypatch.setattr("sys.argv", ["example"])
    monkeypatch.setitem(os.environ, "GIVEN_VARIABLES", "BATCH")
    with pytest.raises(SystemExit, match="4"):
        start(main)


@pytest.mark.parametrize(
    ("name", "text", "expects"),
    [
        ("BATCH", "0", "a whole number of galaxies from 1 to 1000"),
        ("BATCH", "1.5", "a whole number of galaxies from 1 to 1000"),
        ("BATCH", "many", "a whole number of galaxies from 1 to 1000"),
        ("SIZE_MB", "-1", "a size in megabytes"),
        ("TARGET", "moon", "local or aws"),
        ("YES", "maybe", "1 or 0"),
    ],
)
def test_a_wrong_value_names_the_variable_and_what_it_must_be(name: str, text: str, expects: str) -> None:
    with pytest.raises(UsageError) as error:
        read(**{name: text})

    assert str(error.value) == f"{name}={text} is not valid: {name} is {expects}."


@given(st.integers(1, 1000))
def test_numbers_may_be_grouped_as_a_person_writes_them(number: int) -> None:
    assert read(BATCH=f"{number:,}") == read(BATCH=f"{number:_}") == ExampleVariables(batch=number)


def test_given_names_what_differs_from_its_default() -> None:
    assert read(BATCH="64", SIZE_MB="10").given == {"BATCH": 64}


@pytest.mark.parametrize("kind", [SweepVariables, ImportVariables, DatasetVariables])
@pytest.mark.parametrize("name", ["../mine", "a/b", ".hidden", "a" * 65])
def test_a_name_that_is_no_folder_of_its_own_is_refused(kind: type[Variables], name: str) -> None:
    with pytest.raises(UsageError, match=f"^NAME={re.escape(name)} is not valid: NAME is "):
        read_variables(kind, {"NAME": name})


FILE_LIMIT, OPEN_LIMIT, MEMORY = (
    next(remedy for pattern, remedy in REMEDIES.items() if what in pattern)
    for what in ("File too large", "Too many open", "Cannot allocate")
)
DISK = REMEDIES[next(iter(REMEDIES))].format(folder=tempfile.gettempdir())


# ---------------------------------------------------------------------------------- how a command ends


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (CommandError("The disk is full."), 1, "The disk is full."),
        (UsageError("N=x is not valid."), 2, "N=x is not valid."),
        (ShardFormatError("0.pt holds nothing."), 1, "0.pt holds nothing."),
        (FileNotFoundError(2, "No such file", "a.csv"), 1, "[Errno 2] No such file: 'a.csv'"),
        (KeyboardInterrupt(), 130, "Interrupted."),
        (OSError(27, "File too large", "a"), 1, f"[Errno 27] File too large: 'a'. {FILE_LIMIT}"),
        (OSError(24, "Too many open files"), 1, f"[Errno 24] Too many open files. {OPEN_LIMIT}"),
        (CommandError("The run stopped: os error 28."), 1, f"The run stopped: os error 28. {DISK}"),
        (OSError(28, "No space left on device", "a"), 1, f"[Errno 28] No space left on device: 'a'. {DISK}"),
        (MemoryError(), 1, f"{OUT_OF_MEMORY}. {MEMORY}"),
        (MemoryError("Unable to allocate 5 GiB"), 1, f"{OUT_OF_MEMORY} (Unable to allocate 5 GiB). {MEMORY}"),
    ],
)
def test_an_error_ends_a_command_with_one_line_and_its_status(
    error: BaseException, status: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def main(variables: ExampleVariables) -> None:
        raise error

    assert exit_status(main, {}) == status
    assert capsys.readouterr().err == f"{line}\n"


def test_what_memory_was_asked_for_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    def main(variables: ExampleVariables) -> None:
        raise MemoryError

    assert exit_status(main, {"BATCH": "1000"}) == 1
    assert capsys.readouterr().err == f"{OUT_OF_MEMORY} with BATCH=1000. {MEMORY}\n"


def test_a_disk_so_full_that_python_finds_no_temporary_folder_is_said_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "gettempdir", lambda: list(map(open, ["/none"])))

    assert "temporary files are in TMPDIR, which" in with_remedy("No space left on device")


def test_a_bug_is_not_hidden() -> None:
    def main(variables: ExampleVariables) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        exit_status(main, {})


def test_a_command_gets_its_variables_and_returns_its_status() -> None:
    def main(variables: ExampleVariables) -> int:
        return variables.batch or 0

    assert exit_status(main, {"BATCH": "7"}) == 7
    assert exit_status(main, {}) == 0


def test_help_names_every_variable(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def main(variables: ExampleVariables) -> None:
        """Do what an example does."""
        pytest.fail("help does nothing")

    monkeypatch.setattr("sys.argv", ["example", "--help"])
    with pytest.raises(SystemExit, match="0"):
        start(main)

    shown = capsys.readouterr().out
    assert shown.startswith("Do what an example does.\n")
    assert shown == f"{usage(main)}\n"
    assert [line.split()[0] for line in shown.splitlines()[-5:]] == ["BATCH", "SIZE_MB", "TARGET", "YES", "NAME"]


def test_options_are_refused_because_variables_are_meant(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def main(variables: ExampleVariables) -> None:
        pytest.fail("it must not start")

    monkeypatch.setattr("sys.argv", ["example", "--batch", "8"])
    with pytest.raises(SystemExit, match="2"):
        start(main)

    assert "BATCH" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "status", "out", "err"),
    [
        (["one"], 3, "", ""),
        (["two"], 4, "", ""),
        ([], 2, "", "There are: one, two.\n"),
        (["three"], 2, "", "There are: one, two.\n"),
        (["one", "two"], 2, "", "There are: one, two.\n"),
        (["--help"], 0, "There are: one, two.\n", ""),
        (["-h"], 0, "There are: one, two.\n", ""),
    ],
)
def test_a_program_of_several_commands_runs_the_one_that_is_named(
    words: list[str],
    status: int,
    out: str,
    err: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def one(variables: ExampleVariables) -> int:
        return 3

    def two(variables: ExampleVariables) -> int:
        return variables.batch or 0

    monkeypatch.setattr("sys.argv", ["example", *words])
    monkeypatch.setitem(os.environ, "BATCH", "4")

    gc.disable()  # as it is while a command is imported
    try:
        with pytest.raises(SystemExit) as ended:
            start_one_of({"one": one, "two": two})
        assert gc.isenabled()
    finally:
        gc.enable()

    assert ended.value.code == status
    assert capsys.readouterr() == (out, err)


def test_a_program_reads_its_own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    def main(variables: ExampleVariables) -> int:
        return variables.batch or 0

    monkeypatch.setattr("sys.argv", ["example"])
    monkeypatch.setitem(os.environ, "BATCH", "5")
    with pytest.raises(SystemExit, match="5"):
        start(main)


@pytest.mark.parametrize(
    ("words", "said"),
    [(["scripts.run"], "0"), (["scripts.image", "build"], "0"), (["scripts.local_aws.serve"], "<built-in")],
)
def test_ctrl_c_while_a_command_is_imported_leaves_no_traceback(words: list[str], said: str) -> None:
    argv = f"['-m', *{words[1:]}], ['python', '-m', *{words}]"
    program = f"import sys; sys.argv, sys.orig_argv = {argv}; import scripts, signal; "
    done = subprocess.run(
        [sys.executable, "-c", f"{program}print(format(signal.getsignal(signal.SIGINT)))"],
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.startswith(said)


def test_a_port_that_is_taken_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        assert exit_status(emulate.main, {"PORT": str(port)}) == 2

    assert f"PORT={port}: Address already in use" in capsys.readouterr().err


@pytest.mark.parametrize("is_asked", [True, False])
def test_make_emulate_is_as_rude_as_it_is_told_and_says_how_to_reach_it(
    is_asked: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class FakeAws(server.LocalAws):
        def __enter__(self) -> "FakeAws":
            asked.update(workers=self.workers, log_dir=self.log_dir, port=self._port, rudeness=self._rudeness)
            self.endpoint_url = "http://127.0.0.1:9"
            return self

        def wait(self, stop: object) -> None:
            # By then another program that reads it knows where to go.
            asked.update(waits_for=stop, said=out.buffer.getvalue().decode())

    asked: dict[str, object] = {}
    out: Any = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setattr(emulate, "LocalAws", FakeAws)
    monkeypatch.setattr(emulate, "stop_signals", lambda: "Ctrl-C")
    rudeness = {"concurrency": 3, "inactive_s": 4, "s3_failure_every": 5, "starts_per_s": 6}
    variables = {name.upper(): str(number) for name, number in rudeness.items()} if is_asked else {}
    if is_asked:
        variables |= {"ALL_COLD": "1", "WORKERS": "7", "LOG_DIR": "logs"}

    assert exit_status(emulate.main, variables) == 0

    said = str(asked.pop("said"))
    assert "export AWS_ENDPOINT_URL=http://127.0.0.1:9\n" in said
    assert len(said.splitlines()) == len(server.client_environment("", "", ""))
    assert capsys.readouterr().err == f"Local AWS at http://127.0.0.1:9, logs in {asked['log_dir']}. Ctrl-C ends it.\n"
    assert asked == {
        "workers": 7 if is_asked else num_cores(),
        "log_dir": Path("logs" if is_asked else "runs/emulate"),
        "port": 0,
        "rudeness": Rudeness(**rudeness, all_cold=True) if is_asked else Rudeness(),
        "waits_for": "Ctrl-C",
    }


def test_a_command_looks_for_garbage_once_it_is_imported_and_not_in_that() -> None:
    program = """
import gc, sys
sys.argv, sys.orig_argv = ["-m"], ["python", "-m", "scripts.run"]
import scripts
print(gc.isenabled())
from scripts.command import program, variables
def main(_variables: variables.Variables) -> None: print(gc.isenabled(), gc.get_freeze_count() > 1000)
program.start(main)
"""

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert done.stdout.split() == ["False", "True", "True"], done.stderr


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        ("ModuleNotFoundError('No module named rich', name='rich')", "No module named rich. The packages in"),
        ("ImportError('libopenblas.so: cannot open shared object file', name='numpy')", "`make clean`, then the same"),
        (
            "ImportError('a page\\nfailed to map segment from shared object', name='numpy')",
            "failed to map segment from",
        ),
        ('RuntimeError("can\'t start new thread")', "can't start new thread. `ulimit -v`, `ulimit -u` or other"),
        ("MemoryError()", "Out of memory. `ulimit -v`"),
        ("ModuleNotFoundError('No module named scripts.x', name='scripts.x')", "Traceback (most recent call last)"),
        ("ZeroDivisionError()", "Traceback (most recent call last)"),
    ],
)
def test_what_ends_a_command_before_it_begins_is_one_line_but_for_bugs(raised: str, said: str) -> None:
    program = "import sys; sys.argv, sys.orig_argv = ['-m'], ['python', '-m', 'scripts.run']; import scripts; "

    command = [sys.executable, "-c", f"{program}raise {raised}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert said in done.stderr
    assert ("Traceback" in said) == (done.stderr.count("\n") > 1)
