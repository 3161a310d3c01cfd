#!/usr/bin/env bash
# Each export by its own format's validator. Those of Croissant and of the Hugging Face Hub are in the lock. The package of
# Every Eval Ever wants Python 3.12 and an older huggingface_hub, but its validator runs on the lock's packages: its wheel
# is taken by its digest (network) and unpacked, not installed.
#   tools/validate_exports.sh [RESULTS]
set -euo pipefail
cd "$(dirname "$0")/.."
results=${1:-results}
python=$PWD/.venv/bin/python
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

echo "every-eval-ever==0.3.0 --hash=sha256:564b8bc624c1f822f749a769dc69dc058a736e83d920cbeb147c3a30d3152317" > "$folder/wheel.txt"
options=(-q --no-deps --only-binary :all: --require-hashes --target "$folder/validator" -r "$folder/wheel.txt")
if command -v uv > /dev/null; then
  uv pip install --python "$python" --python-version 3.12 "${options[@]}"
else
  "$python" -m pip install --disable-pip-version-check --ignore-requires-python "${options[@]}"
fi

.venv/bin/medbench export croissant --results "$results" --out "$folder/croissant"
for file in "$folder"/croissant/*.json; do .venv/bin/mlcroissant validate --jsonld "$file"; done

.venv/bin/medbench export every-eval-ever --results "$results" --out "$folder/every-eval-ever"
cd "$folder/every-eval-ever"
PYTHONPATH="$folder/validator" "$python" -m every_eval_ever validate data/*/*/*/*.json
PYTHONPATH="$folder/validator" "$python" -m every_eval_ever check-duplicates data
cd - > /dev/null

.venv/bin/medbench export eval-results --benchmark owner/name --results "$results" --out "$folder/hub"
"$python" - "$folder/hub" <<'PYTHON'
import sys
from pathlib import Path

import yaml
from huggingface_hub import eval_result_entries_to_yaml, parse_eval_result_entries

files = sorted(Path(sys.argv[1]).glob("*/.eval_results/*.yaml"))
assert files
for file in files:
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert eval_result_entries_to_yaml(parse_eval_result_entries(content)) == content, file
print(f"huggingface_hub reads {len(files)} files as they were written")
PYTHON
