#!/usr/bin/env bash
# Make the virtual environment hold what scripts/requirements.txt locks, compile the native engine, and mark it ready. Called by
# make when one of the sources below is newer than the mark. Needs nothing but bash, so that it runs before anything is installed.
set -euo pipefail
cd "$(dirname "$0")/.."

VENV=${VENV:-.venv}
PYTHON=${PYTHON:-}
OFFICIAL_CPU_INDEX=https://download.pytorch.org/whl/cpu
# What the mark is compared with.
SOURCES=(pyproject.toml scripts/requirements.txt scripts/setup.sh inference/engines/native/source)
# What pyproject.toml allows, in the order of preference: the image has the first.
VERSIONS=(3.11 3.12 3.13)
NAMES="3.11, 3.12 or 3.13"
# Where a Python may be that is not on the path.
read -r -a FOLDERS <<<"${PYTHON_FOLDERS-/opt/homebrew/bin /usr/local/bin /usr/bin}"
# How pip begins to say that a file has another checksum.
CHANGED="DO NOT MATCH THE HASHES"
# What `make run` and its workers import. Only this is compiled now: compiling all packages takes a minute.
FIRST_IMPORTS=(
    "onnxruntime, safetensors.numpy"
    "boto3, s3transfer.manager, obstore.store, msgspec, rich.live, rich.table, moto.server,
     moto.s3.models, moto.s3.responses, moto.awslambda.models, moto.stepfunctions.models, moto.stepfunctions.responses"
    "kcorrect.kcorrect, scipy.spatial, scipy.interpolate, scipy.optimize, scipy.ndimage, scipy.special"
)
# What moto imports only when it is first asked, and what exists on Linux only.
LATE_IMPORTS=(antlr4 awslambdaric jsonpath_ng moto/batch moto/ec2 moto/ecs moto/iam moto/stepfunctions moto/sts pydantic rich)

main() {
    local base log torch
    [[ $PWD != *\$* ]] || fail "The folder $PWD has a \$ in its name, which Python's packaging takes for a variable: rename it."
    base=$(find_python)
    wait_for_other_setup "$base"
    if [ -e "$VENV/.ready" ] && [ -x "$VENV/bin/python" ] && [ -z "$(find "${SOURCES[@]}" -type f -newer "$VENV/.ready")" ]; then return; fi
    say "Setting up $VENV with $("$base" --version) and PyTorch for CPU; the first time takes a minute or two."
    is_our_python "$VENV/bin/python" "$base" || clear_venv
    mkdir -p "$VENV"
    log=$VENV/setup.log
    : >"$log"
    is_our_python "$VENV/bin/python" "$base" || step "virtual environment" "$log" "$base" -m venv "$VENV"
    # An old pip does the same, slower: never a reason to stop.
    has_distribution pip "$(locked pip | sed -n 's/.*==\([0-9.]*\).*/\1/p')" ||
        install_locked --retries 0 --timeout 15 -r <(locked pip) >>"$log" 2>&1 || true
    torch=$(torch_requirement)
    if ! has_distribution torch "${torch#torch==}" && ! pip_offers "$torch" "$log"; then
        step "PyTorch from its official CPU index" "$log" install_official "$torch"
    fi
    step "packages" "$log" install_packages
    step "native engine" "$log" make_native
    step "first import" "$log" import_once
    touch "$VENV/.ready"
}

# Two `make` in a fresh clone: the second waits, and finds the work done. The lock belongs to descriptor 9, which this
# shell keeps open: it goes with the shell, however that ends. Python takes it because macOS has no flock command.
wait_for_other_setup() {
    local folder
    folder=$(dirname "$VENV")/.cache
    mkdir -p "$folder"
    exec 9>"$folder/$(basename "$VENV").lock"
    "$1" -c '
import fcntl, sys
try:
    fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print("Another make is setting up: waiting for it.", file=sys.stderr)
    fcntl.flock(9, fcntl.LOCK_EX)
except OSError:
    pass  # a file system without locks
'
}

find_python() {
    local candidate candidates version
    if [ -n "$PYTHON" ]; then
        is_python "$PYTHON" || fail "PYTHON=$PYTHON is not a Python $NAMES with venv and ensurepip."
        echo "$PYTHON"
        return
    fi
    # What is set up stays, even when another version is installed later.
    if is_our_python "$VENV/bin/python"; then
        candidate=$("$VENV/bin/python" -c 'import sys; print(sys._base_executable)')
        if is_python "$candidate"; then
            echo "$candidate"
            return
        fi
    fi
    for version in "${VERSIONS[@]}"; do
        candidates=("python$version" python3 python "$HOME/.pyenv/versions/$version".*/bin/python3
            "$HOME/.local/share/uv/python/cpython-$version".*/bin/python3 "${FOLDERS[@]/%//python$version}")
        for candidate in "${candidates[@]}"; do
            if is_python "$candidate" "$version"; then
                echo "$candidate"
                return
            fi
        done
    done
    fetch_python
}

# uv, where it is installed, brings a Python of its own into the home folder. Never without being asked for.
fetch_python() {
    local command=(uv python install "${VERSIONS[0]}") answer
    say "No Python $NAMES with venv found. Install one (Debian: python${VERSIONS[0]}-venv)," \
        "or name it: make PYTHON=/path/to/python${VERSIONS[0]} …"
    command -v uv >/dev/null || fail "uv (https://docs.astral.sh/uv/) can fetch one too: ${command[*]}"
    answer=${YES:-}
    if [ "$answer" != 1 ] && [ -t 0 ]; then
        read -r -p "Fetch it with \`${command[*]}\`? [y/N] " answer
    fi
    case "$answer" in
        1 | y | Y | yes) "${command[@]}" >&2 || fail "uv could not fetch it." ;;
        *) fail "Or fetch it with: ${command[*]}; YES=1 does." ;;
    esac
    uv python find "${VERSIONS[0]}"
}

# is_python PROGRAM [VERSION…]. A shim or a Debian python without ensurepip may be on the path and yet be of no use: ask it.
is_python() {
    local program=$1
    shift
    [ $# -gt 0 ] || set -- "${VERSIONS[@]}"
    "$program" -c 'import ensurepip, sys, venv; sys.exit("%d.%d" % sys.version_info[:2] not in sys.argv[1:])' "$@" \
        >/dev/null 2>&1
}

# is_our_python PROGRAM [BASE]: whether the virtual environment works, and has the version of BASE.
is_our_python() {
    [ -x "$1" ] && "$1" -c 'import pip, sys; sys.exit("%d.%d" % sys.version_info[:2] not in sys.argv[1:])' \
        "${VERSIONS[@]}" >/dev/null 2>&1 && { [ $# -eq 1 ] || [ "$(version_of "$1")" = "$(version_of "$2")" ]; }
}

version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])'; }

# What is left of an interrupted set-up, or of a Python that is gone.
clear_venv() {
    [ ! -e "$VENV" ] || [ -f "$VENV/pyvenv.cfg" ] || [ -f "$VENV/setup.log" ] ||
        fail "$VENV exists and is not a virtual environment: move it away."
    rm -rf "$VENV"
}

pip() {
    PIP_USER=0 "$VENV/bin/python" -m pip "$@" --no-input --disable-pip-version-check --progress-bar off
}

has_distribution() {
    "$VENV/bin/python" -c "import importlib.metadata as m, sys; sys.exit(m.version('$1') != '$2')" 2>/dev/null
}

# The plain wheel is the CPU build on macOS and a CUDA build of 3 GB on Linux.
torch_requirement() {
    local version
    version=$(sed -n 's/.*"torch==\([0-9.]*\)".*/\1/p' pyproject.toml)
    [ -n "$version" ] || fail "pyproject.toml pins no torch version."
    if [ "$(uname -s)" = Darwin ]; then echo "torch==$version"; else echo "torch==$version+cpu"; fi
}

# Whether pip, as it is configured here (wheel folder, mirror), has the build; the official index is not asked.
pip_offers() {
    pip install --dry-run --ignore-installed --no-deps --retries 0 --timeout 15 "$1" >>"$2" 2>&1
}

# Files whose checksum scripts/requirements.txt names, and no others: wherever they come from. It is complete, nothing is resolved.
install_locked() { pip install --no-compile --no-deps --require-hashes "$@"; }

# The entries of one package.
locked() { awk -v name="$1==" 'index($0, name) == 1 { on = 1 } on { print; on = /\\$/ }' scripts/requirements.txt; }

install_packages() {
    install_locked -r scripts/requirements.txt && pip install --no-compile --no-deps --no-build-isolation -e .
}

install_official() {
    install_locked --index-url "$OFFICIAL_CPU_INDEX" -r <(locked torch) || {
        ! grep -q "$CHANGED" "$VENV/setup.log" || return 1
        echo "ERROR: $1 is neither in what pip is configured with nor at $OFFICIAL_CPU_INDEX."
        echo "ERROR: Put the wheel into a folder and try again: PIP_FIND_LINKS=/that/folder make …"
        return 1
    }
}

# Everything works without it, slower: a run says what computes in its place, and why.
make_native() {
    env -u PYTHONDONTWRITEBYTECODE "$VENV/bin/python" -m inference.engines.native || true
}

# Also proves that the packages can be imported. The environment may forbid byte code files; these are the venv's own.
import_once() {
    local imports packages pids=() pid status=0
    for imports in "${FIRST_IMPORTS[@]}"; do
        env -u PYTHONDONTWRITEBYTECODE "$VENV/bin/python" -c "import ${imports//$'\n'/ }" &
        pids+=($!)
    done
    for pid in "${pids[@]}"; do wait "$pid" || status=1; done
    # Only faster with than without.
    packages=$("$VENV/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    "$VENV/bin/python" -m compileall -q "${LATE_IMPORTS[@]/#/$packages/}" || true
    return $status
}

# step NAME LOG COMMAND…: run quietly, say how long it took; show the errors when it fails.
step() {
    local name=$1 log=$2 start=$SECONDS
    shift 2
    printf '  %-36s' "$name" >&2
    if "$@" >>"$log" 2>&1; then
        printf '%4d s\n' $((SECONDS - start)) >&2
        return
    fi
    printf 'failed\n' >&2
    if grep -q "$CHANGED" "$log"; then
        fail "$(sed -n "/$CHANGED/,\$ s/^    \([^ ].* from [^ ]*\).*/\1/p" "$log" | head -n 1) is not the file that" \
            "scripts/requirements.txt names: its checksum differs. It was changed on its way or where it is from, and is not installed."
    fi
    grep -E -i 'error|no matching|not found|refused' "$log" | tail -n 12 >&2 || tail -n 12 "$log" >&2
    fail "The set-up stopped; the whole story is in $log."
}

say() { printf '%s\n' "$*" >&2; }

fail() {
    say "$*"
    exit 1
}

main
