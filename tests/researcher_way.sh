#!/usr/bin/env bash
# The way of a researcher up to the pull request, as README.md and docs/own.md have it: a model, images and a recipe of
# one's own. Runs in a clone that holds my_net.py (README's example) and photos/<class>/*.png, and leaves mine/, photos-32/,
# my.toml and weights/. tests/test_pull_request.py goes on from here: records of the same model are sent as a pull request,
# and the workflows' steps see them. Own data never comes along: it stays in mine/.
set -euo pipefail
PATH=$PWD/.venv/bin:$PATH
chosen=(--plugin my_net.py --protocol my.toml --models my_net,floor/knn1 --datasets photos-32)

medbench check --plugin my_net.py
medbench data import photos --out photos-32 --size 32 --license CC0-1.0 --seed 0
medbench data check photos-32
medbench protocol new my.toml --extends smoke --set optim.lr=3e-3
medbench plan "${chosen[@]}" --results mine
medbench run "${chosen[@]}" --results mine --keep-weights weights --device cpu
medbench verify --results mine --scores
medbench report --results mine --reports mine/reports
grep "^| my_net " mine/reports/own_data.md
medbench predict --plugin my_net.py --protocol my.toml --results mine --weights weights/my_net__own-photos__my__s0.safetensors \
  "$(find photos -name '*.png' | sort | head -n 1)"

# Into the repository's own results it is refused.
if medbench run --protocol my.toml --models floor/knn1 --datasets photos-32 --device cpu 2> mine/refused.txt; then
  echo "researcher_way.sh: own data came into results/" >&2
  exit 1
fi
cat mine/refused.txt
