import ast
import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_type_hints

import msgspec
import pytest

ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text()
TORCH = re.search(r'"(torch==[0-9.]+)"', (ROOT / "pyproject.toml").read_text())[1] + "+cpu"

PRINT_VARIABLES = """#!/bin/sh
printf '<%s>' "$WORLD" "$DATASET" "$NAME"
"""

# Behaves like a Python 3.11 whose pip has, or has not, what FAKE_… say; writes down how it was called.
FAKE_PYTHON = """#!/usr/bin/env bash
echo "$*" >>"$FAKE_CALLS"
case "$*" in
    --version) echo "Python 3.11.9" ;;
    "-m venv "*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; touch "$3/pyvenv.cfg" ;;
    *"m.version('pip')"*) exit 0 ;;
    *"m.version('torch')"*) exit "${FAKE_TORCH_INSTALLED:-1}" ;;
    *"--dry-run"*) exit "${FAKE_TORCH_OFFERED:-0}" ;;
    *"--index-url"*) exit "${FAKE_INDEX_REACHED:-0}" ;;
    *"-r scripts/requirements.txt"*) [ -z "$FAKE_INSTALL_FAILS" ] || { echo "$FAKE_INSTALL_FAILS"; exit 1; } ;;
esac
"""


def executable(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def clean_environment(**variables: str) -> dict[str, str]:
    """Without what a `make test` around this test hands down."""
    inherited = {name: value for name, value in os.environ.items() if not re.match(r"MAKE|MFLAGS|WORLD|RESULT", name)}
    return inherited | variables


def make(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "--no-print-directory", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=clean_environment(**variables), capture_output=True, text=True, check=False
    )


def set_up(tmp_path: Path, **variables: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run the set-up with a fake Python; return what it said and how Python was called."""
    python = executable(tmp_path / "python", FAKE_PYTHON)
    calls = tmp_path / "calls"
    fakes = {"PYTHON": str(python), "VENV": str(tmp_path / "venv"), "FAKE_CALLS": str(calls), "FAKE_INSTALL_FAILS": ""}
    done = subprocess.run(
        [ROOT / "scripts" / "setup.sh"],
        env=clean_environment(**{**fakes, **variables}),
        capture_output=True,
        text=True,
        check=False,
    )
    return done, calls.read_text().splitlines() if calls.exists() else []


# ----------------------------------------------------------------------------------------------- help


def test_make_alone_prints_every_target_and_variable() -> None:
    printed = make().stdout
    targets = re.findall(r"^([a-z0-9-]+):.*##", MAKEFILE, re.MULTILINE)

    assert {
        "run",
        "status",
        "stop",
        "doctor",
        "test",
        "check",
        "emulate",
        "invoke",
        "dataset",
        "train",
        "schema",
        "clean",
        "help",
    } <= set(targets)
    assert all(f"make {target} " in printed for target in targets)
    assert all(f"\n{group}\n" in f"\n{printed}" for group in ("Predict", "Data and model", "Development"))
    variables = " ".join(re.findall(r"^(?:RUN|OTHER)_VARIABLES := (.*)$", MAKEFILE, re.MULTILINE)).split()
    assert len(variables) > 50
    assert [name for name in variables if f"{name}=" not in printed] == []


def test_the_help_fits_80_columns() -> None:
    assert max(len(line) for line in make().stdout.splitlines()) <= 80


# ------------------------------------------------------------------------------------------ variables


def handed_down(tmp_path: Path, *arguments: str, **variables: str) -> str:
    executable(tmp_path / "bin" / "python", PRINT_VARIABLES)
    return make("-o", f"{tmp_path}/.ready", f"VENV={tmp_path}", "run", *arguments, **variables).stdout


@pytest.mark.parametrize(
    "value",
    ["plain", "two words", "it's", 'say "so"', "cost $5 $(shell id) $$ $HOME", "`id`", "a;b|c&d", "#7", "100%", "\\n"],
)
def test_a_variable_reaches_the_script_word_for_word(value: str, tmp_path: Path) -> None:
    assert handed_down(tmp_path, f"DATASET={value}") == f"<><{value}><>"


@pytest.mark.parametrize("name", ["VENV", "PYTHON"])
@pytest.mark.parametrize("value", ["$(shell touch {})", "x; touch {}", "`touch {}`", "x' touch {}"])
def test_a_path_that_would_be_executed_is_refused_by_name(name: str, value: str, tmp_path: Path) -> None:
    mark = tmp_path / "mark"

    done = make("help", f"{name}={value.format(mark)}")

    assert done.returncode == 2
    assert f"{name} holds " in done.stderr
    assert not mark.exists()


def test_a_variable_of_the_environment_reaches_the_script_too(tmp_path: Path) -> None:
    assert handed_down(tmp_path, WORLD="8", DATASET="a$b") == "<8><a$b><>"


def test_a_name_that_the_system_gives_to_every_program_is_none_of_ours(tmp_path: Path) -> None:
    assert handed_down(tmp_path, NAME="my-laptop") == "<><><>"


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["run", "WORLD=abc"], "WORLD=abc is not valid"),
        (["build", "ARCH=vax"], "ARCH=vax is not valid"),
        (["sweep", "YES=7"], "YES=7 is not valid: YES is 1 or 0."),
        (["run", "SORCE=x"], "SORCE is no variable of this command. Did you mean SOURCE? It takes"),
        (["dataset", "SORCE=x"], "SORCE is no variable of this command. Did you mean SOURCE? It takes"),
        (["verify", "MODEL=mine"], "MODEL is no variable of this command. It takes"),
        (["verify", "stop", "DATASIT=x"], "DATASIT is no variable of this command. Did you mean DATASET?"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_command_understands_its_variables_as_make_hands_them_over(arguments: list[str], answer: str) -> None:
    done = make("-o", f"{sys.prefix}/.ready", f"VENV={sys.prefix}", *arguments)

    assert done.returncode == 2
    assert answer in " ".join(done.stderr.split())


GIVEN = """#!/bin/sh
printf '<%s>' "$GIVEN_VARIABLES"
"""


@pytest.mark.parametrize(
    ("arguments", "variables", "given"),
    [
        (["run", "WORLD=8", "SORCE=x"], {}, {"WORLD", "SORCE"}),
        (["run"], {"WORLD": "8", "SORCE": "x", "MODEL": "y"}, set()),
        (["run", "status", "WORLD=8", "SORCE=x"], {}, {"SORCE"}),
    ],
    ids=["written behind make", "of the environment", "one of several targets may know it"],
)
def test_what_was_written_behind_make_is_handed_down_by_name(
    arguments: list[str], variables: dict[str, str], given: set[str], tmp_path: Path
) -> None:
    executable(tmp_path / "bin" / "python", GIVEN)

    printed = make("-o", f"{tmp_path}/.ready", f"VENV={tmp_path}", *arguments, **variables).stdout

    assert set(re.findall(r"<([^>]*)>", printed)[0].split()) == given | {"VENV"}


COMMAND = re.compile(r"make ([a-z-]+)((?: [A-Z_]+=[^\s`;)\"]+)+)")


def test_every_command_of_the_documents_has_the_variables_they_write_behind_it() -> None:
    pages = [ROOT / "README.md", *ROOT.glob("docs/*.md"), ROOT / "terraform/README.md", ROOT / "docker/README.md"]
    written = {found for page in pages for found in COMMAND.findall(page.read_text(encoding="utf-8"))}

    refused = []
    for target, variables in sorted(written):
        module, *command = re.search(rf"^{target}:.*?-m (\S+)((?: \w+)?)$", MAKEFILE, re.MULTILINE | re.DOTALL).groups()
        known = variables_of(module, "".join(command).strip())
        refused += [f"{target} {name}" for name in re.findall(r"([A-Z_]+)=", variables) if name not in known]

    assert len(written) > 20
    assert refused == []


def variables_of(module: str, command: str) -> set[str]:
    """Names of the variables of a target's command."""
    found = importlib.import_module(module)
    main = found.COMMANDS[command] if command else found.main
    (kind, *_) = get_type_hints(main).values()
    return {field.encode_name for field in msgspec.structs.fields(kind)}


def test_make_hands_over_every_variable_of_every_command() -> None:
    exported = re.findall(r"[A-Z0-9_]+", " ".join(re.findall(r"_VARIABLES := (.*)", MAKEFILE)))
    # Read, not imported: all commands together load every library there is.
    trees = [ast.parse(path.read_text()) for path in (*ROOT.glob("scripts/**/*.py"), ROOT / "tests" / "mutate.py")]
    structs = [node for tree in trees for node in tree.body if isinstance(node, ast.ClassDef) and is_variables(node)]
    fields = [field.target for struct in structs for field in struct.body if isinstance(field, ast.AnnAssign)]

    read = {field.id.upper().rstrip("_") for field in fields if isinstance(field, ast.Name)}

    assert len(structs) > 20
    assert read - set(exported) == set()


def is_variables(node: ast.ClassDef) -> bool:
    return any(isinstance(base, ast.Name) and base.id.endswith("Variables") for base in node.bases)


# --------------------------------------------------------------------------------------------- set-up


def test_the_official_index_is_not_asked_when_pip_has_the_cpu_build(tmp_path: Path) -> None:
    done, calls = set_up(tmp_path)

    assert done.returncode == 0
    assert not any("--index-url" in call for call in calls)
    assert sum("--no-deps --require-hashes -r scripts/requirements.txt" in call for call in calls) == 1
    assert sum("--no-deps --no-build-isolation -e ." in call for call in calls) == 1


def test_the_official_index_is_asked_when_pip_does_not_have_it(tmp_path: Path) -> None:
    done, calls = set_up(tmp_path, FAKE_TORCH_OFFERED="1")

    (official,) = [call for call in calls if "--index-url" in call]
    assert done.returncode == 0
    assert "--no-deps --require-hashes --index-url https://download.pytorch.org/whl/cpu -r /dev/fd/" in official


def test_no_index_is_asked_for_a_build_that_is_installed(tmp_path: Path) -> None:
    _, calls = set_up(tmp_path, FAKE_TORCH_INSTALLED="0", FAKE_TORCH_OFFERED="1")

    assert not any("--index-url" in call or "--dry-run" in call for call in calls)


def test_when_nobody_has_the_cpu_build_the_set_up_says_what_to_do(tmp_path: Path) -> None:
    done, calls = set_up(tmp_path, FAKE_TORCH_OFFERED="1", FAKE_INDEX_REACHED="1")

    assert done.returncode == 1
    assert "PIP_FIND_LINKS=" in done.stderr
    assert not any("-r scripts/requirements.txt" in call for call in calls)


def test_a_folder_whose_name_packaging_takes_for_a_variable_is_refused_in_a_line(tmp_path: Path) -> None:
    script = tmp_path / "a$x" / "scripts" / "setup.sh"
    script.parent.mkdir(parents=True)
    shutil.copy(ROOT / "scripts" / "setup.sh", script)

    done = subprocess.run([script], env=clean_environment(), capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert "a$x has a $ in its name" in done.stderr
    assert not (tmp_path / "a$x" / ".venv").exists()


def test_the_home_of_another_python_is_not_ours() -> None:
    done = make("--eval", "show: ; @echo [$$PYTHONHOME]", "show", PYTHONHOME="/nonsense")

    assert done.stdout == "[]\n"


def test_an_interrupted_set_up_is_not_taken_for_a_finished_one(tmp_path: Path) -> None:
    done, _ = set_up(tmp_path, FAKE_INSTALL_FAILS="ERROR: no space left")

    assert done.returncode == 1
    assert "ERROR: no space left" in done.stderr
    assert not (tmp_path / "venv" / ".ready").exists()


def test_a_changed_wheel_is_refused_in_one_line(tmp_path: Path) -> None:
    said = """ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE. If you have updated the package
    numpy==2.4.6 from http://127.0.0.1/numpy-2.4.6.whl (from -r scripts/requirements.txt (line 7)):
        Expected sha256 aa
        Expected     or bb
             Got        cc
"""
    done, calls = set_up(tmp_path, FAKE_INSTALL_FAILS=said)

    (line,) = [line for line in done.stderr.splitlines() if "numpy" in line]
    assert done.returncode == 1
    assert line.startswith(
        "numpy==2.4.6 from http://127.0.0.1/numpy-2.4.6.whl is not the file that scripts/requirements.txt"
    )
    assert not any("-e ." in call for call in calls)
    assert "Expected" not in done.stderr


def test_a_second_set_up_keeps_the_environment(tmp_path: Path) -> None:
    set_up(tmp_path)
    _, calls = set_up(tmp_path)

    assert sum(call.startswith("-m venv") for call in calls) == 1


def test_an_environment_whose_python_is_gone_is_made_again(tmp_path: Path) -> None:
    set_up(tmp_path)
    (tmp_path / "venv" / "bin" / "python").unlink()
    (tmp_path / "venv" / "bin" / "python").symlink_to(tmp_path / "gone")

    asked = make("--question", f"VENV={tmp_path}/venv", f"{tmp_path}/venv/.ready")
    _, calls = set_up(tmp_path)

    assert asked.returncode == 1, "make knows that there is something to do"
    assert sum(call.startswith("-m venv") for call in calls) == 2


def test_a_folder_that_is_no_environment_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "venv").mkdir()
    (tmp_path / "venv" / "thesis.tex").touch()

    done, _ = set_up(tmp_path)

    assert "move it away" in done.stderr
    assert (tmp_path / "venv" / "thesis.tex").exists()


def test_a_python_that_is_not_3_11_is_refused_in_one_line(tmp_path: Path) -> None:
    old = executable(tmp_path / "old", "#!/bin/sh\nexit 1\n")

    done, _ = set_up(tmp_path, PYTHON=str(old))

    assert done.returncode == 1
    assert done.stderr == f"PYTHON={old} is not a Python 3.11, 3.12 or 3.13 with venv and ensurepip.\n"


def search_python(
    tmp_path: Path, path: dict[str, str], **variables: str
) -> tuple[subprocess.CompletedProcess[str], str]:
    """Run the set-up where these Pythons, name to version, are all there is; return its end and the one it took."""
    tools = {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin", "HOME": str(tmp_path), "PYTHON_FOLDERS": "", "PYTHON": ""}
    for name in ("python", "python3", "python3.11", "python3.12", "python3.13"):
        executable(tmp_path / "bin" / name, versioned(path.get(name, "none")))
    done, calls = set_up(tmp_path, **{**tools, **variables})
    made = [call.partition(": ")[0] for call in calls if ": -m venv " in call]
    return done, made[0] if made else ""


def versioned(version: str) -> str:
    asked = f"""
case "$*" in
    *sys.version_info*sys.argv*) case " $* " in *" {version} "*) exit 0 ;; *) exit 1 ;; esac ;;
    *sys.version_info*) echo {version}; exit ;;
    *_base_executable*) cat "$(dirname "$0")/../base"; exit ;;
esac
case "$*" in"""
    named = FAKE_PYTHON.replace('echo "$*"', f'echo "{version}: $*"').replace("3.11.9", f"{version}.0")
    return named.replace('touch "$3/pyvenv.cfg"', 'touch "$3/pyvenv.cfg"; echo "$0" >"$3/base"').replace(
        'case "$*" in', asked, 1
    )


@pytest.mark.parametrize(
    ("path", "version"),
    [
        ({"python3.12": "3.12", "python3.11": "3.11"}, "3.11"),
        ({"python3.12": "3.12", "python3": "3.13"}, "3.12"),
        ({"python3.12": "none", "python3": "3.13"}, "3.13"),
        ({"python": "3.12", "python3": "3.14"}, "3.12"),
    ],
)
def test_the_first_python_that_the_packages_are_for_is_taken_and_named(
    tmp_path: Path, path: dict[str, str], version: str
) -> None:
    done, taken = search_python(tmp_path, path)

    assert taken == version
    assert f"with Python {version}.0" in done.stderr


def test_the_python_of_an_environment_stays_when_an_older_one_comes(tmp_path: Path) -> None:
    search_python(tmp_path, {"python3": "3.12"})
    (tmp_path / "calls").unlink()

    done, taken = search_python(tmp_path, {"python3": "3.12", "python3.11": "3.11"})

    assert (done.returncode, taken) == (0, "")


def test_another_python_that_is_asked_for_gets_an_environment_of_its_own(tmp_path: Path) -> None:
    search_python(tmp_path, {"python3": "3.12"})
    (tmp_path / "venv" / ".ready").unlink()
    (tmp_path / "calls").unlink()

    _, taken = search_python(tmp_path, {"python3.13": "3.13"}, PYTHON="python3.13")

    assert taken == "3.13"


FAKE_UV = """#!/usr/bin/env bash
echo "$*" >>"$FAKE_CALLS"
[ "$2" = install ] || echo "$(dirname "$0")/../fetched"
"""


def test_without_a_python_the_set_up_says_how_to_get_one(tmp_path: Path) -> None:
    done, _ = search_python(tmp_path, {})

    assert done.returncode == 1
    assert "python3.11-venv" in done.stderr
    assert "uv python install 3.11" in done.stderr


@pytest.mark.parametrize("answer", ["", "1"])
def test_uv_fetches_a_python_only_when_the_user_says_so(tmp_path: Path, answer: str) -> None:
    executable(tmp_path / "bin" / "uv", FAKE_UV)
    executable(tmp_path / "fetched", versioned("3.11"))

    done, taken = search_python(tmp_path, {}, YES=answer)

    assert taken == ("3.11" if answer else "")
    assert (done.returncode, "python install 3.11" in (tmp_path / "calls").read_text()) == (
        (0, True) if answer else (1, False)
    )


def test_two_set_ups_at_once_do_the_work_once(tmp_path: Path) -> None:
    slow = FAKE_PYTHON.replace('"-m venv "*)', '"-m venv "*) sleep 1;')
    # The lock is taken by a real Python, whichever program sets up.
    python = executable(
        tmp_path / "python", slow.replace('case "$*" in', f'case "$*" in *fcntl*) exec {sys.executable} "$@" ;;')
    )
    calls = tmp_path / "calls"
    fakes = {"PYTHON": str(python), "VENV": str(tmp_path / "venv"), "FAKE_CALLS": str(calls), "FAKE_INSTALL_FAILS": ""}
    command, variables = [ROOT / "scripts" / "setup.sh"], clean_environment(**fakes)

    both = [subprocess.Popen(command, env=variables, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=60)[1] for process in both]

    assert [process.returncode for process in both] == [0, 0]
    assert sum(call.startswith("-m venv") for call in calls.read_text().splitlines()) == 1
    assert sum("waiting for it" in text for text in said) == 1


def test_clean_says_what_stays(tmp_path: Path) -> None:
    for folder in ("handlers", "inference", "scripts", "tests", "runs", "datasets", ".venv"):
        (tmp_path / folder).mkdir()
    (tmp_path / ".venv" / ".ready").touch()

    done = subprocess.run(
        ["make", "-f", ROOT / "Makefile", "clean"],
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "runs/ stays\ndatasets/ stays\n" in done.stdout
    assert (tmp_path / "runs").exists()
    assert not (tmp_path / ".venv").exists()
