#!/usr/bin/env bash
# Each export by its own format's validator, in throw-away environments (network; Python 3.12 for Every Eval Ever 0.3.0).
#   tools/validate_exports.sh [RESULTS]
set -euo pipefail
cd "$(dirname "$0")/.."
results=${1:-results}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

python3.12 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check mlcroissant every-eval-ever huggingface_hub pyyaml

.venv/bin/medbench export croissant --results "$results" --out "$folder/croissant"
for file in "$folder"/croissant/*.json; do "$folder/venv/bin/mlcroissant" validate --jsonld "$file"; done

.venv/bin/medbench export every-eval-ever --results "$results" --out "$folder/every-eval-ever"
(cd "$folder/every-eval-ever" && "$folder/venv/bin/every_eval_ever" validate data/*/*/*/*.json)

.venv/bin/medbench export eval-results --benchmark owner/name --results "$results" --out "$folder/hub"
"$folder/venv/bin/python" - "$folder/hub" <<'PYTHON'
import sys
from pathlib import Path

import yaml
from huggingface_hub import eval_result_entries_to_yaml, parse_eval_result_entries

files = sorted(Path(sys.argv[1]).glob("*/.eval_results/*.yaml"))
for file in files:
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert eval_result_entries_to_yaml(parse_eval_result_entries(content)) == content, file
print(f"huggingface_hub reads {len(files)} files as they were written")
PYTHON
