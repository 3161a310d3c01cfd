#!/usr/bin/env bash
# The whole study on one screen. Safe to restart: what is done is not done again.
#
#   ./run_all.sh                 set up, verify the recorded results, rebuild reports/, run the demo
#   ./run_all.sh STUDY [--yes]   the same, then a study (estimate first, then asks): lite, table2, ablation,
#                                lightweight, table3, full, init, imbalance, efficiency, robustness
#   ./run_all.sh setup           only set up
#   ./run_all.sh tables          light set-up without torch: verify the recorded results and rebuild reports/
#   ./run_all.sh tests [--slow]  set up, then lint, types, the recorded results and tests
set -euo pipefail
cd "$(dirname "$0")"

what=demo chosen="" yes="" slow=""
for argument in "$@"; do
  case "$argument" in
    --yes) yes=1 ;;
    --slow) slow=1 ;;
    -h | --help) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 0 ;;
    -*) echo "run_all.sh: unknown option $argument; known: --yes, --slow" >&2; exit 2 ;;
    *)
      if [ -n "$chosen" ]; then echo "run_all.sh: one study at a time; got $what and $argument" >&2; exit 2; fi
      what=$argument chosen=1 ;;
  esac
done
case "$what" in setup | tests | tables) ;; *)
  if [ ! -f "bench/studies/$what.toml" ]; then
    known=$(cd bench/studies && ls ./*.toml | sed 's/^\.\///; s/\.toml$//' | tr '\n' ' ')
    echo "run_all.sh: unknown study '$what'; known: ${known}setup tables tests" >&2
    exit 2
  fi ;;
esac

# One thread a run and no busy waiting: two runs at once on two cores must not disturb each other.
export OMP_WAIT_POLICY=passive OMP_NUM_THREADS=1
jobs=${MEDBENCH_JOBS:-2}

find_python() {
  for name in ${MEDBENCH_PYTHON:-python3.11 python3.12 python3.13 python3.14 python3 python}; do
    if command -v "$name" > /dev/null && "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null; then
      command -v "$name"
      return
    fi
  done
  echo "run_all.sh: no Python 3.11 or newer on the PATH (MEDBENCH_PYTHON names one); install one" >&2
  exit 2
}

# set_up light|full: the locked packages, with hashes, and this project; at once when nothing changed.
set_up() {
  local stamp lock=build/lock.txt
  stamp="$(cat requirements.lock pyproject.toml | cksum) $1"
  if [ "$(cat .venv/.set-up 2> /dev/null)" = "$stamp" ] || [ "$(cat .venv/.set-up 2> /dev/null)" = "${stamp% *} full" ]; then
    return
  fi
  mkdir -p build
  if [ "$1" = full ]; then cp requirements.lock "$lock"; else sed '/^# --- run/,$d' requirements.lock > "$lock"; fi
  echo "Setting up .venv ($1) ..."
  if command -v uv > /dev/null; then
    [ -x .venv/bin/python ] || uv venv -q --python "$(find_python)" .venv
    uv pip install -q --python .venv/bin/python --require-hashes -r "$lock"
    uv pip install -q --python .venv/bin/python --no-deps --no-build-isolation -e .
  else
    [ -x .venv/bin/python ] || "$(find_python)" -m venv .venv
    .venv/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r "$lock"
    .venv/bin/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
  fi
  echo "$stamp" > .venv/.set-up
}

# The recorded results: whole, and the reports are what they give.
tables() {
  .venv/bin/medbench verify --scores
  .venv/bin/medbench report
}

case "$what" in
  setup)
    set_up full
    ;;
  tests)
    set_up full
    .venv/bin/ruff check .
    .venv/bin/ruff format --check .
    .venv/bin/mypy
    .venv/bin/medbench verify --scores
    .venv/bin/medbench report --check
    if [ -n "$slow" ]; then marks=(); else marks=(-m "not slow"); fi
    .venv/bin/python -m pytest -q -n 2 --dist loadgroup "${marks[@]}"
    ;;
  tables)
    set_up light
    tables
    ;;
  demo)
    set_up full
    tables
    code=0
    .venv/bin/medbench run --study demo --results build/demo/results --jobs "$jobs" --device cpu || code=$?
    .venv/bin/medbench report --results build/demo/results --reports build/demo/reports
    echo "The recorded study: reports/table3.md. The demo: build/demo/reports/table3.md, SYNTHETIC_table3.md."
    exit "$code"
    ;;
  *)
    set_up full
    tables
    if [ -n "$yes" ]; then ask=(); else ask=(--ask); fi
    code=0
    .venv/bin/medbench run --study "$what" --jobs "$jobs" "${ask[@]}" || code=$?
    .venv/bin/medbench report
    exit "$code"
    ;;
esac
